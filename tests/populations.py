"""Numbers to be counted in bins: every kind of population that tells a right answer from a nearly right one."""

import numpy as np
import xarray as xr
from hypothesis import strategies as st

from wdyn import bins


def histogram(values: np.ndarray) -> xr.DataArray:
    """Count values in wdyn's bins."""
    counts = np.bincount(bins.bin_of(np.asarray(values, dtype=np.float64)), minlength=bins.COUNT)
    return xr.DataArray(counts.astype(np.float64), dims="bin")


def lattice(values: np.ndarray) -> np.ndarray:
    """Round to bfloat16, by cutting the mantissa."""
    bits = values.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)
    return bits.view(np.float32).astype(np.float64)


SHAPES = {
    "normal": lambda g, n: g.normal(size=n),
    "heavy tails": lambda g, n: g.standard_cauchy(size=n),
    "lattice": lambda g, n: lattice(g.normal(size=n)),
    "few values": lambda g, n: g.choice([-2.0, -1.0, 0.0, 0.25, 1.0], size=n),
    "zeros": lambda g, n: np.zeros(n),
    "one bin": lambda g, n: g.uniform(1.0, 1.25, size=n),
    "lower edge": lambda g, n: np.full(n, -1.0),
    "upper edge": lambda g, n: np.full(n, np.nextafter(1.25, 0)),
    "denormals": lambda g, n: g.normal(size=n) * 1e-40,
    "magnitudes": lambda g, n: g.choice([-1.0, 1.0], size=n) * 2.0 ** g.uniform(-120, 100, size=n),
    "half zeros": lambda g, n: g.normal(size=n) * (g.random(n) > 0.5),
    "shifted": lambda g, n: 5 + g.normal(size=n),
}


@st.composite
def populations(draw: st.DrawFn) -> np.ndarray:
    """Finite numbers, one at least."""
    shape = draw(st.sampled_from(sorted(SHAPES)))
    size, scale = draw(st.one_of(st.just(1), st.integers(1, 400))), draw(st.sampled_from([1.0, 0.02, -3e4]))
    return SHAPES[shape](np.random.default_rng(draw(st.integers(0, 2**32))), size) * scale
