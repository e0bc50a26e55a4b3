"""Is what clipping did recorded, by who called torch's own functions, with nothing else changed?"""

import copy
import inspect
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import wdyn
from loops import Tiny, adamw, loss_of
from wdyn.errors import InvalidArgument

FUNCTIONS = {
    (home, name): getattr(home, name)
    for home in (nn.utils, nn.utils.clip_grad)
    for name in ("clip_grad_norm_", "clip_grads_with_norm_", "clip_grad_value_")
    if hasattr(home, name)
}


@pytest.fixture(autouse=True)
def _unwrapped() -> Iterator[None]:
    yield
    for (home, name), function in FUNCTIONS.items():
        assert getattr(home, name) is function


class Heard:
    """Stands for a watch: a model, and what was logged."""

    def __init__(self, model: nn.Module, *optimizers: torch.optim.Optimizer) -> None:
        self.model, self.optimizers = model, optimizers
        self.calls: list[dict[str, object]] = []

    def log(self, **scalars: object) -> None:
        if scalars:
            self.calls.append(scalars)

    @property
    def last(self) -> dict[str, float]:
        return {name: float(value) for name, value in self.calls[-1].items()}


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return with_gradients(nn.Linear(5, 3))


def with_gradients(model: nn.Module) -> nn.Module:
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    return model


def norm_of(model: nn.Module, kind: float = 2.0) -> float:
    flat = np.concatenate([p.grad.double().numpy().ravel() for p in model.parameters()])
    return float(np.linalg.norm(flat, kind))


# In a loop.


def test_watch_clipping__records_norms_and_coefficient_at_the_step_of_the_weights(place: Path) -> None:
    torch.manual_seed(0)
    model = Tiny()
    optimizer, norms, left = adamw(model), [], []
    with wdyn.watch(model, optimizer, to=place, every=1) as w, wdyn.watch_clipping(w):
        for step in range(1, 4):
            optimizer.zero_grad()
            loss_of(model, step).backward()
            norms.append(norm_of(model))
            nn.utils.clip_grad_norm_(model.parameters(), 0.75)
            left.append(norm_of(model))
            optimizer.step()
    run = wdyn.open_run(place)
    scalars = run["scalars"].sel(step=[0, 1, 2])
    np.testing.assert_allclose(scalars["grad_norm"], norms, rtol=1e-6)
    np.testing.assert_allclose(scalars["grad_norm_clipped"], left, rtol=1e-5)
    np.testing.assert_allclose(scalars["clip_coefficient"], np.minimum(1, 0.75 / (np.array(norms) + 1e-6)), rtol=1e-6)
    assert np.isnan(run["scalars/grad_norm"].sel(step=3))
    table = wdyn.parameters(run)
    gradients = wdyn.statistics(run, "gradients")["l2"].isel(parameter=np.flatnonzero(table["tied_to"].values == ""))
    used = ((gradients**2).sum("parameter") ** 0.5).sel(step=[1, 2, 3])
    np.testing.assert_allclose(used, left, rtol=1e-6)  # the gradient at the weights of row s makes step s + 1


def test_watch_clipping__a_norm_may_be_a_spike(place: Path) -> None:
    torch.manual_seed(0)
    model = Tiny()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    jumps = wdyn.spike("grad_norm", factor=10, window=4)
    with wdyn.watch(model, optimizer, to=place, every=jumps) as w, wdyn.watch_clipping(w):
        for step in range(1, 16):
            optimizer.zero_grad()
            (loss_of(model, 1) * (100 if step == 10 else 1)).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    # Logged at step 9, by a gradient that makes step 10.
    assert wdyn.open_run(place)["statistics/weights/step"].values.tolist() == [0, 10, 15]


def test_watch_clipping__changes_nothing(place: Path) -> None:
    def trained(watched: bool) -> list[torch.Tensor]:
        torch.manual_seed(1)
        model = Tiny()
        optimizer = adamw(model)
        with ExitStack() as stack:
            if watched:
                w = stack.enter_context(wdyn.watch(model, optimizer, to=place, every=1))
                stack.enter_context(wdyn.watch_clipping(w))
            for step in range(6):
                optimizer.zero_grad()
                loss_of(model, step).backward()
                nn.utils.clip_grad_norm_(model.parameters(), 0.1)
                nn.utils.clip_grad_value_(model.parameters(), 0.01)
                optimizer.step()
        return [*model.parameters(), torch.get_rng_state()]

    assert all(map(torch.equal, trained(False), trained(True)))


# The functions.


@pytest.mark.parametrize("kind", [2.0, 1.0, math.inf])
@pytest.mark.parametrize("foreach", [True, False, None])
def test_clip_grad_norm__does_and_returns_the_same(kind: float, foreach: bool | None, model: nn.Module) -> None:
    other, w = copy.deepcopy(model), Heard(model)
    with_same_gradients(other, model)
    before = norm_of(model, kind)
    expected = nn.utils.clip_grad_norm_(other.parameters(), 0.5, kind, foreach=foreach)
    with wdyn.watch_clipping(w):
        got = nn.utils.clip_grad_norm_(parameters=model.parameters(), max_norm=0.5, norm_type=kind, foreach=foreach)
    assert torch.equal(got, expected)
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert len(w.calls) == 1
    assert w.calls[0]["grad_norm"] is got
    assert w.last["grad_norm"] == pytest.approx(before, rel=1e-6)
    assert w.last["grad_norm_clipped"] == pytest.approx(norm_of(model, kind), rel=1e-5)


def with_same_gradients(model: nn.Module, source: nn.Module) -> None:
    for one, other in zip(model.parameters(), source.parameters(), strict=True):
        one.grad = other.grad.clone()


def test_clip_grad_norm__below_the_limit_has_coefficient_1(model: nn.Module) -> None:
    w = Heard(model)
    with wdyn.watch_clipping(w):
        total = nn.utils.clip_grad_norm_(model.parameters(), 1e3)
    assert w.last == {"grad_norm": float(total), "grad_norm_clipped": float(total), "clip_coefficient": 1.0}


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_clip_grad_norm__what_is_not_finite_is_told_as_it_is(bad: float, model: nn.Module) -> None:
    model.bias.grad[0] = bad
    w = Heard(model)
    with wdyn.watch_clipping(w):
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        with pytest.raises(RuntimeError, match="non-finite"):
            nn.utils.clip_grad_norm_(model.parameters(), 1.0, error_if_nonfinite=True)
    assert len(w.calls) == 1
    np.testing.assert_equal(w.last["grad_norm"], bad)
    assert math.isnan(w.last["grad_norm_clipped"])
    assert math.isnan(norm_of(model))


def test_clip_grads_with_norm__and_clip_grad_value_are_seen(model: nn.Module) -> None:
    w = Heard(model)
    with wdyn.watch_clipping(w):
        total = nn.utils.get_total_norm([p.grad for p in model.parameters()])
        assert nn.utils.clip_grads_with_norm_(list(model.parameters()), 0.5, total) is None
        assert nn.utils.clip_grad_value_(model.weight, clip_value=0.125) is None
    assert [set(call) for call in w.calls] == [{"grad_norm", "grad_norm_clipped", "clip_coefficient"}, {"clip_value"}]
    assert w.calls[0]["grad_norm"] is total
    assert w.last["clip_value"] == 0.125
    assert model.weight.grad.abs().max() <= 0.125


def test_watch_clipping__the_other_names_of_a_function_are_seen_once_a_call(model: nn.Module) -> None:
    w = Heard(model)
    with wdyn.watch_clipping(w):
        nn.utils.clip_grad.clip_grad_norm_(model.parameters(), 1.0)
        with pytest.warns(FutureWarning, match="deprecated"):
            nn.utils.clip_grad_norm(model.parameters(), 1.0)
    assert len(w.calls) == 2


def test_watch_clipping__a_call_within_a_call_is_told_once(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    def outer(parameters: object, max_norm: float) -> torch.Tensor:
        total = torch.tensor(2.0)
        nn.utils.clip_grads_with_norm_(parameters, max_norm, total)
        return total

    monkeypatch.setitem(vars(nn.utils), "clip_grad_norm_", outer)
    w = Heard(model)
    with wdyn.watch_clipping(w):
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    assert len(w.calls) == 1
    monkeypatch.undo()


@pytest.mark.parametrize("of", [list, iter, lambda given: (one for one in given), lambda given: next(iter(given))])
def test_watch_clipping__parameters_may_come_in_any_form(of: Callable[..., object], model: nn.Module) -> None:
    w = Heard(model)
    with wdyn.watch_clipping(w):
        total = nn.utils.clip_grad_norm_(of(model.parameters()), 1.0)
    assert w.last["grad_norm"] == float(total) > 1


def test_watch_clipping__torch_still_warns_of_an_empty_generator(model: nn.Module) -> None:
    with wdyn.watch_clipping(Heard(model)), pytest.warns(UserWarning, match="is an empty generator"):
        nn.utils.clip_grad_norm_((p for p in ()), 1.0)


def test_watch_clipping__keeps_name_and_signature(model: nn.Module) -> None:
    with wdyn.watch_clipping(Heard(model)):
        for (home, name), function in FUNCTIONS.items():
            wrapped = getattr(home, name)
            assert wrapped is not function
            assert wrapped.__name__ == function.__name__
            assert wrapped.__doc__ == function.__doc__
            assert inspect.signature(wrapped) == inspect.signature(function)
        with pytest.raises(TypeError, match="max_norm"):
            nn.utils.clip_grad_norm_(model.parameters())


def test_watch_clipping__does_not_wait_for_a_device(model: nn.Module) -> None:
    w = Heard(model.to("meta"))  # where a value that is read raises
    with_gradients(model)
    with wdyn.watch_clipping(w):
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    assert all(value.is_meta for value in w.calls[0].values())


def test_watch_clipping__within_a_compiled_function_calls_the_original(model: nn.Module) -> None:
    def clip() -> torch.Tensor:
        return nn.utils.clip_grad_norm_([model.weight, model.bias], 0.5)

    w, before = Heard(model), norm_of(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the compiler has to say about itself
        with wdyn.watch_clipping(w):
            total = torch.compile(clip, backend="eager")()
    assert float(total) == pytest.approx(before, rel=1e-6)
    assert norm_of(model) == pytest.approx(0.5, rel=1e-4)


# Whose call, and when.


def test_watch_clipping__two_watches_hear_of_their_own_model_only(model: nn.Module) -> None:
    other = with_gradients(nn.Linear(2, 2))
    one, two, both = Heard(model), Heard(other), Heard(nn.ModuleList([model, other]))
    with wdyn.watch_clipping(one), wdyn.watch_clipping(two), wdyn.watch_clipping(both):
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        nn.utils.clip_grad_value_(other.parameters(), 1.0)
        nn.utils.clip_grad_norm_(with_gradients(nn.Linear(2, 2)).parameters(), 1.0)
    assert [len(w.calls) for w in (one, two, both)] == [1, 1, 2]


def test_watch_clipping__hears_of_copies_that_the_optimizer_trains(model: nn.Module) -> None:
    copies = [nn.Parameter(p.detach().double()) for p in model.parameters()]
    for one in copies:
        one.grad = torch.ones_like(one)
    w = Heard(model, torch.optim.SGD(copies, lr=1.0))
    with wdyn.watch_clipping(w):
        nn.utils.clip_grad_norm_(copies, 1.0)
    assert w.last["grad_norm"] == pytest.approx(math.sqrt(18))


def test_watch_clipping__blocks_may_end_in_any_order(model: nn.Module) -> None:
    one, two = Heard(model), Heard(model)
    first, second = wdyn.watch_clipping(one), wdyn.watch_clipping(two)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    assert (len(one.calls), len(two.calls)) == (0, 1)
    second.__exit__(None, None, None)


def test_watch_clipping__an_exception_passes_and_the_functions_are_back(model: nn.Module) -> None:
    with pytest.raises(ZeroDivisionError, match="the user's own"), wdyn.watch_clipping(Heard(model)):
        raise ZeroDivisionError("the user's own")


def test_watch_clipping__needs_a_block_that_is_entered(model: nn.Module, place: Path) -> None:
    w = wdyn.watch(model, to=place)
    with pytest.raises(InvalidArgument, match="before the block was entered"), wdyn.watch_clipping(w):
        pytest.fail("the block must not be entered")


def test_watch_clipping__after_the_recording_does_nothing(model: nn.Module, place: Path) -> None:
    with ExitStack() as stack:
        with wdyn.watch(model, to=place) as w:
            stack.enter_context(wdyn.watch_clipping(w))
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    assert "grad_norm" not in wdyn.open_run(place)["scalars"]


def test_watch_clipping__hears_of_accelerate(model: nn.Module) -> None:
    accelerate = pytest.importorskip("accelerate")
    w = Heard(model)
    with wdyn.watch_clipping(w):
        total = accelerate.Accelerator(cpu=True).clip_grad_norm_(model.parameters(), 1.0)
    assert w.last["grad_norm"] == float(total)
