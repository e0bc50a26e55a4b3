"""Is one saved model what the other is: weights, ties, config, tokenizer, outputs, optimizer?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import xarray as xr

from wdyn import schema
from wdyn.analysis.analyzer import Analyzer
from wdyn.analysis.likeness_notes import retied
from wdyn.analysis.likeness_words import number
from wdyn.errors import InvalidArgument
from wdyn.findings import Finding, Severity
from wdyn.naming import examples
from wdyn.schema import State

CODES: Final = {
    "INT001": "Weights do not have the same bits",
    "INT002": "Names or shapes of weights differ",
    "INT003": "Weights are tied otherwise",
    "INT004": "The configs differ",
    "INT005": "The tokenizers differ, or one is missing",
    "INT006": "One model does not load, or not whole",
    "INT007": "Outputs on a probe input differ",
    "INT008": "Outputs on a probe input prove nothing",
    "INT009": "The optimizers' states differ",
}


@dataclass(frozen=True)
class Outputs:
    """What two models gave on the same input.

    Attributes
    ----------
    probe
        What the input was.
    largest
        Largest absolute difference; NaN where one has a NaN.
    variances
        Of each, over the positions of the input, the mean over its features: 0 for a constant output.
    """

    probe: str
    largest: float
    variances: tuple[float, float]


@dataclass(frozen=True)
class Compared:
    """What was compared of two models.

    Attributes
    ----------
    parameters
        The weights, as `wdyn.diff` has them.
    config, tokenizer, optimizer
        What differs, each in words by its name: a key, a file, a tensor.
    unloadable
        Why a model does not load, or what was not in its file, by ``a`` and ``b``.
    outputs
        What both gave; None where they were not run.
    done
        What else was compared and is equal, in words.
    left
        What was not compared, and why.
    """

    parameters: xr.Dataset
    config: Mapping[str, str] = field(default_factory=dict)
    tokenizer: Mapping[str, str] = field(default_factory=dict)
    optimizer: Mapping[str, str] = field(default_factory=dict)
    unloadable: Mapping[str, str] = field(default_factory=dict)
    outputs: Outputs | None = None
    done: tuple[str, ...] = ()
    left: Mapping[str, str] = field(default_factory=dict)


def check(compared: Compared, *, tolerance: float = 0.0) -> Iterator[Finding]:
    """Say what differs.

    Parameters
    ----------
    compared
        What `wdyn.verify` measured.
    tolerance
        Largest difference of outputs that is let pass.
    """
    yield from _weights(compared.parameters)
    for code, severity, found, advice in (
        ("INT004", Severity.WARNING, compared.config, "Save the config of the model itself beside its weights."),
        ("INT005", Severity.WARNING, compared.tokenizer, "Save the tokenizer into the same folder."),
        ("INT006", Severity.ERROR, compared.unloadable, "Save with save_pretrained, all of the model."),
        ("INT009", Severity.WARNING, compared.optimizer, "Save the optimizer at the step of the weights."),
    ):
        if found:
            told = examples([f"{name}: {words}" for name, words in found.items()])
            yield Finding(code, severity, f"{CODES[code]}: {told}.", advice=advice)
    if compared.outputs is not None:
        yield from _outputs(compared.outputs, tolerance)


def _weights(parameters: xr.Dataset) -> Iterator[Finding]:
    states = parameters["state"].values
    other_bits = np.isin(states, (State.CHANGED, State.CAST))
    alone = np.isin(states, (State.MISSING, State.EXTRA, State.RESHAPED))
    renamed = parameters["renamed_by"].values != ""
    for code, chosen, words, advice in (
        ("INT001", other_bits, "do not have the same bits", "See how far: wdyn diff A B."),
        ("INT002", alone, "are not in both, or not of one shape", "See which, and their shapes: wdyn diff A B."),
        ("INT002", renamed, "have another name", "Save under the names of the model."),
    ):
        if chosen.any():
            # Buffers come and go with versions of the library, which makes them anew.
            only_buffers = (parameters["kind"].values[chosen] == schema.Kind.BUFFER).all()
            severity = Severity.WARNING if only_buffers else Severity.ERROR
            yield _of(parameters, chosen, code, severity, words, advice)
    tied = retied(parameters)
    if tied.any():
        advice = "Tie them again after loading (model.tie_weights()), before the optimizer is made."
        yield _of(parameters, tied, "INT003", Severity.WARNING, "share their memory with others", advice)


def _of(parameters: xr.Dataset, chosen: np.ndarray, code: str, severity: Severity, words: str, advice: str) -> Finding:
    evidence = parameters.isel({schema.PARAMETER: np.flatnonzero(chosen)})
    names = evidence[schema.PARAMETER].values.tolist()
    count = f"{len(names)} of {len(chosen)} parameters {words}"
    return Finding(code, severity, f"{count}: {examples(names)}.", evidence=evidence, advice=advice)


def _outputs(found: Outputs, tolerance: float) -> Iterator[Finding]:
    if not found.largest <= tolerance:  # NaN is no agreement
        variance = number(found.variances[0])
        told = f"On {found.probe} the outputs differ by {number(found.largest)}, with a variance of {variance}."
        yield Finding("INT007", Severity.ERROR, told, advice="See which weights differ: wdyn diff A B.")
    elif not min(found.variances) > 0:
        told = f"On {found.probe} the outputs do not depend on the input: that they agree proves nothing."
        yield Finding("INT008", Severity.WARNING, told, advice="Look at the norms and at the last layer of the model.")


def _of_two(run: xr.DataTree) -> xr.Dataset:
    """Two models are compared with ``wdyn.verify(a, b)``."""
    raise InvalidArgument("Two models are compared with wdyn.verify(a, b); a run alone has no answer")


ROUND_TRIP: Final = Analyzer("verify", "INT", "Is one model what the other is?", _of_two, check, CODES)
"""Who gives these codes; it is asked of two models, and never of a run."""
