"""What are the statistics of a tensor, by the plain textbook formulas in numpy?"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def statistics(values: npt.NDArray[Any]) -> dict[str, float | int]:
    """Give every statistic that a run holds, by name, in float64."""
    wide = values.astype(np.float64)
    finite = wide[np.isfinite(wide)]
    deviation, std = finite - finite.mean(), finite.std()
    with np.errstate(invalid="ignore"):  # a constant tensor has no skewness: 0/0 is NaN
        shape = {name: np.float64((deviation**p).mean()) / std**p for name, p in (("skewness", 3), ("kurtosis", 4))}
    nans = int(np.isnan(wide).sum())
    return {
        "mean": float(finite.mean()),
        "std": float(std),
        "rms": float(np.sqrt((finite**2).mean())),
        "min": float(finite.min()),
        "max": float(finite.max()),
        "abs_max": float(np.abs(finite).max()),
        "l1": float(np.abs(finite).sum()),
        "l2": float(np.sqrt((finite**2).sum())),
        **{name: float(value) for name, value in shape.items()},
        "count": wide.size,
        "zeros": int((wide == 0).sum()),
        "nonfinite": wide.size - finite.size,
        "nans": nans,
        "infs": wide.size - finite.size - nans,
    }
