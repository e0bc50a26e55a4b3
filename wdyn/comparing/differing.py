"""How do two models differ, parameter by parameter and as a whole?"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from wdyn.checkpoints.differences import Progress, differences
from wdyn.checkpoints.sides import Given, side
from wdyn.reports.difference import Difference

if TYPE_CHECKING:
    from collections.abc import Sequence


def diff(
    a: Given,
    b: Given,
    *,
    keys: Sequence[str | None] = (None, None),
    base: str | os.PathLike[str] | None = None,
    spectra: bool = True,
    progress: Progress = lambda done, total: None,
) -> Difference:
    """How do two models differ, parameter by parameter and as a whole?

    One pair of tensors is in memory at a time, and all sums are formed in float64.

    Parameters
    ----------
    a, b
        Each a path (a run as ``run.zarr`` or ``run.zarr@500``, a file, a folder), a name on the Hugging Face hub
        (``name@revision``), an opened run or one and a step, a module, or a state dict. Of a run without a step the
        last snapshot is compared.
    keys
        Which model of a file that holds several, for a and for b: ``("model", "ema")``.
    base
        The model that PEFT adapters adapt: each side that is one is compared merged into it.
    spectra
        Whether to find the spectral norm, stable rank and rank of each change, which takes most of the time.
    progress
        Told how many parameters were compared, and how many there are.

    Returns
    -------
    Difference
        ``verdict`` : in words. ``parameters`` : a Dataset of all numbers, over ``parameter``, whose variables
        `wdyn.checkpoints.differences.differences` lists. ``by("role")`` : added up. It writes itself as text, Markdown,
        HTML and JSON, and shows itself in a notebook.

    Raises
    ------
    InvalidArgument
        One of the two is nothing of this, nothing is there, or it holds several models and `keys` names none.
    StepNotRecorded, NoMatch
        The run has no snapshot at that step, or none at all.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Linear(8, 8)
    >>> diff(model, {name: value.bfloat16() for name, value in model.state_dict().items()}).verdict.sentence
    'Cast to bfloat16: b is a cast to bfloat16, bit for bit, in 2 of 2'
    """
    first, second = keys
    sides = side(a, key=first, base=base), side(b, key=second, base=base)
    return Difference(differences(*sides, spectra=spectra, progress=progress))
