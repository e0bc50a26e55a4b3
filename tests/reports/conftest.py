"""A run of a GPT built by hand, with a parameter whose name attacks, and analyzers that say known things of it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from wdyn.analysis.machinery import Analyzer, skip
from wdyn.findings import Finding, Severity

HOSTILE = "<img src=x onerror=alert(1)>[bold red]x[/]\u202eevil\x1b[31m`|*_](http://evil.example)"

BLOCK = {
    "ln_1": ("norm", (8,)),
    "attn.c_attn": ("qkv", (8, 24)),
    "attn.c_proj": ("o", (8, 8)),
    "mlp.c_fc": ("mlp_up", (8, 32)),
    "mlp.c_proj": ("mlp_down", (32, 8)),
}


def row(name, path, role, layer, shape, *, trainable=True, tied_to=""):
    return {
        "parameter": name,
        "path": path,
        "role": role,
        "stack": "decoder",
        "layer": layer,
        "shape": json.dumps(shape),
        "dims": json.dumps(("fan_out", "fan_in")[: len(shape)]),
        "dtype": "float32",
        "numel": math.prod(shape),
        "trainable": trainable,
        "tied_to": tied_to,
        "kind": "bias" if name.endswith(".bias") else "weight",
        "in_optimizer": trainable,
        "group": 0,
        "weights": "",
    }


def table(rows):
    columns = {key: [one[key] for one in rows] for key in rows[0]}
    names = np.array(columns.pop("parameter"), dtype=object)
    return xr.Dataset({k: ("parameter", np.array(v)) for k, v in columns.items()}, coords={"parameter": names})


def gpt(layers):
    rows = [
        row("wte.weight", "wte.weight", "embedding", -1, (100, 8)),
        row("wpe.weight", "wpe.weight", "pos_embedding", -1, (16, 8), trainable=False),
    ]
    for layer in range(layers):
        for module, (role, shape) in BLOCK.items():
            rows.append(row(f"h.{layer}.{module}.weight", f"h.{module}.weight", role, layer, shape))
            rows.append(row(f"h.{layer}.{module}.bias", f"h.{module}.bias", role, layer, shape[-1:]))
    rows.append(row("lm_head.weight", "lm_head.weight", "unembedding", -1, (100, 8), tied_to="wte.weight"))
    rows.append(row(HOSTILE, HOSTILE, "other", -1, (3,)))
    return table(rows)


@pytest.fixture
def parameters():
    return gpt


@pytest.fixture
def parameter_row():
    return row


@pytest.fixture
def parameter_table():
    return table


@pytest.fixture
def hostile():
    return HOSTILE


@pytest.fixture
def run(tmp_path):
    names = gpt(12)
    steps = np.arange(0, 601, 10)
    std = np.ones((len(steps), names.sizes["parameter"]))
    statistics = xr.Dataset({"std": (("step", "parameter"), std)}, coords={"step": steps})
    statistics = statistics.assign_coords(attempt=("step", np.where(steps > 300, 1, 0)))
    every = np.arange(601)
    scalars = xr.Dataset(
        {
            # 300 s of training, a night of nothing, 299 s of training.
            "wall_time": ("step", 1e9 + every + np.where(every > 300, 36_000.0, 0.0)),
            "capture_seconds": ("step", np.where(every % 10 == 0, 0.1, np.nan)),
        },
        coords={"step": every, "attempt": ("step", np.where(every > 300, 1, 0))},
    )
    weights = xr.Dataset({"value": (("step", "layer"), np.zeros((3, 12)))}, coords={"step": [0, 100, 600]})
    of_a, of_b = (
        {
            "wdyn": {
                "path": path,
                "stack": "decoder",
                "layers": list(range(12)),
                "names": [f"{path}.{at}" for at in range(12)],
            }
        }
        for path in "ab"
    )
    about = {
        "format": 1,
        "model": "GPT",
        "attempts": [
            {"number": 0, "resumed_from_step": -1, "started": "2026-01-01T10:00:00+0000"},
            {"resumed_from_step": 300},
        ],
        "lost": {"rows": 0, "snapshots": 2},
        "closed": True,
    }
    place = tmp_path / "run.zarr"
    place.mkdir()
    (place / "chunk").write_bytes(b"x" * 1500)
    return xr.DataTree.from_dict(
        {
            "/": xr.Dataset(attrs={"wdyn": about, "path": str(place)}),
            "/parameters": names,
            "/statistics/weights": statistics,
            "/statistics/updates": statistics.isel(step=slice(1, None)),
            "/scalars": scalars,
            "/weights/a-0000": weights.assign_attrs(of_a),
            "/weights/b-0001": weights.isel(step=slice(0, 1)).assign_attrs(of_b),
        }
    )


def measure(run):
    names = run["parameters"].to_dataset()
    count = names.sizes["parameter"]
    return xr.Dataset(
        {
            "std": (("step", "parameter"), np.outer([1.0, np.nan], np.ones(count))),
            "planted": ("parameter", np.linspace(0.0, 1.0, count)),
        },
        coords={"step": [0, 600], "parameter": names.parameter, "role": ("parameter", names.role.values)},
    )


def check(result):
    yield Finding("ONE001", Severity.INFO, "All is as it should be.")
    yield Finding(
        "ONE003",
        Severity.WARNING,
        "wte.weight is wide.",
        evidence=result[["std"]].isel(parameter=slice(0, 1)),
        advice="Make it narrow.",
        reproduce="wdyn.one(run).sel(parameter='wte.weight')",
    )
    yield Finding("ONE002", Severity.ERROR, f"{HOSTILE} moved.", advice=HOSTILE, reproduce=f"run['{HOSTILE}']")


@pytest.fixture
def one():
    codes = {"ONE001": "Nothing.", "ONE002": "It moved.", "ONE003": "It is wide."}
    return Analyzer("one", "ONE", "Is one well?", measure, check, codes)


@pytest.fixture
def absent():
    def measure_nothing(run):
        return skip("no updates were recorded", remedy='wdyn.watch(..., what=("updates",))')

    return Analyzer("absent", "ABS", "Is it there?", measure_nothing, lambda result: (), {"ABS001": "Gone."})


def draw(result, *, ax=None):
    figure = Figure(figsize=(9, 4))
    axes = figure.subplots(1, 2)
    figure.suptitle(f"All is {HOSTILE}")
    axes[0].plot([0, 1], [0, 1])
    axes[0].set(xlabel="step", ylabel="std", title="qkv")
    axes[1].set(xlabel="step", ylabel="std", title="o")
    return figure


@pytest.fixture(autouse=True)
def _drawn(monkeypatch):
    """Draw something small whatever the result: what a figure looks like is asked elsewhere."""
    monkeypatch.setattr("wdyn.reports.figures.plot", draw)


@pytest.fixture
def report(run, one, absent):
    from wdyn.reports.report import analyze

    return analyze(run, [one, absent])
