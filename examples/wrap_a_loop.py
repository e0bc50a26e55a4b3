"""What does watching a loop of one's own look like? Run it: python examples/wrap_a_loop.py [directory]."""

import sys
from pathlib import Path

import torch
from torch import nn

import wdyn


def main(directory: Path) -> None:
    """Fit a small network to a sine, watched, and say how far each matrix moved."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    x = torch.linspace(-3, 3, 256).unsqueeze(1)

    with wdyn.watch(model, optimizer, to=directory / "sine.zarr", every=5, snapshots=wdyn.every(50)) as w:
        for _ in range(200):
            loss = nn.functional.mse_loss(model(x), torch.sin(2 * x))
            optimizer.zero_grad()
            loss.backward()
            w.log(loss=loss)
            optimizer.step()

    run = wdyn.open_run(directory / "sine.zarr")
    loss = run["scalars/loss"].dropna("step")
    print(f"loss: {loss[0]:.3f} at step {loss.step[0]:d}, {loss[-1]:.5f} at step {loss.step[-1]:d}")
    weights = wdyn.select(run, path="weight", step=[0, 200], layer=2)
    print(f"std of layer 2: {' -> '.join(f'{std:.3f}' for std in weights.std(['fan_out', 'fan_in']).values)}")
    print(wdyn.analyze(run).to_text())


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
