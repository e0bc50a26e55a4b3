"""Which words, dimensions and table columns does a run consist of?

The one home of every constant that more than one stage needs. It imports nothing of wdyn.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Final

FORMAT: Final = 1
"""Version of the layout on disk. Readers refuse a larger one."""

# Dimensions of the arrays of a run.
STEP: Final = "step"
LAYER: Final = "layer"
PARAMETER: Final = "parameter"
GROUP: Final = "group"
RUN: Final = "run"
FAN_OUT: Final = "fan_out"
FAN_IN: Final = "fan_in"
EXPERT: Final = "expert"
HEAD: Final = "head"
HEAD_DIM: Final = "head_dim"
BIN: Final = "bin"
PART: Final = "part"

# Coordinate along `step`: which attempt wrote the row.
ATTEMPT: Final = "attempt"

# Groups of a run, as named on disk and in the DataTree.
PARAMETERS: Final = "parameters"
WEIGHTS: Final = "weights"
STATISTICS: Final = "statistics"
HISTOGRAMS: Final = "histograms"
PARTS: Final = "parts"
RELATIONS: Final = "relations"
STATES: Final = "states"
SCALARS: Final = "scalars"

VALUE: Final = "value"
"""The array of exact weights in ``weights/<slug>``."""

COUNTED: Final = "count"
"""The array of counts by bin in ``histograms/<quantity>``."""

LOWER: Final = "lower"
UPPER: Final = "upper"
"""Edges of the bins, beside the counts."""

ATTRIBUTES: Final = "wdyn"
"""The key of wdyn's own attributes, at the root and in every ``weights/<slug>``."""

NO_LAYER: Final = -1
NO_GROUP: Final = -1


class Quantity(StrEnum):
    """What the numbers are of."""

    WEIGHTS = "weights"
    UPDATES = "updates"
    GRADIENTS = "gradients"
    DISPLACEMENT = "displacement"
    """Weights minus those of the first row."""


class Extra(StrEnum):
    """What `watch` records on request, beside the quantities that are always the same."""

    MOMENTS = "moments"
    """Every tensor that the optimizer holds of a parameter and that is shaped like it: a quantity by its own name."""
    UPDATE_COSINE = "update_cosine"
    PREDICTED_UPDATE = "predicted_update"


class Role(StrEnum):
    """What a parameter does. The vocabulary is closed."""

    EMBEDDING = "embedding"
    POS_EMBEDDING = "pos_embedding"
    TYPE_EMBEDDING = "type_embedding"
    PATCH_EMBEDDING = "patch_embedding"
    VALUE_EMBEDDING = "value_embedding"
    EMBED_PROJ = "embed_proj"
    UNEMBEDDING = "unembedding"
    Q = "q"
    K = "k"
    V = "v"
    O = "o"  # noqa: E741 - the field's own name for the output projection
    QKV = "qkv"
    KV = "kv"
    CROSS_Q = "cross_q"
    CROSS_K = "cross_k"
    CROSS_V = "cross_v"
    CROSS_QKV = "cross_qkv"
    CROSS_O = "cross_o"
    POS_BIAS = "pos_bias"
    POS_PROJ = "pos_proj"
    MLP_UP = "mlp_up"
    MLP_GATE = "mlp_gate"
    MLP_DOWN = "mlp_down"
    MLP_GATE_UP = "mlp_gate_up"
    ROUTER = "router"
    NORM = "norm"
    CONV = "conv"
    SSM = "ssm"
    RNN_IH = "rnn_ih"
    RNN_HH = "rnn_hh"
    RNN_PROJ = "rnn_proj"
    HEAD = "head"
    LINEAR = "linear"
    BUFFER = "buffer"
    OTHER = "other"


class Kind(StrEnum):
    """Which tensor of a module a parameter is."""

    WEIGHT = "weight"
    BIAS = "bias"
    BUFFER = "buffer"


class State(StrEnum):
    """What became of a parameter, from one model to another."""

    EQUAL = "equal"
    """The same dtype and the same bits."""
    CAST = "cast"
    """Rounded to another dtype and not changed otherwise, whichever dtype it is kept in."""
    CHANGED = "changed"
    RESHAPED = "reshaped"
    MISSING = "missing"
    EXTRA = "extra"
    LEFT_OUT = "left out"
    """Not there under this name, but under one that shares its memory."""


# Statistics of one tensor. Counts are int64 on disk (-1: not recorded), the rest float64 (NaN: not recorded).
COUNTS: Final = ("count", "zeros", "nonfinite", "nans", "infs")
MOMENTS: Final = ("mean", "std", "rms", "min", "max", "abs_max", "l1", "l2", "skewness", "kurtosis")
STATISTIC_NAMES: Final = MOMENTS + COUNTS

# How an update stands to the weights and to other updates, one row for each recorded step (float64, NaN: not recorded).
UPDATE_RATIO: Final = "update_ratio"
WEIGHT_COSINE: Final = "weight_cosine"
UPDATE_COSINE: Final = "update_cosine"
UPDATE_GAP: Final = "update_gap"
PREDICTED_RATIO: Final = "predicted_ratio"
PREDICTED_COSINE: Final = "predicted_cosine"
RELATION_NAMES: Final = (
    UPDATE_RATIO,
    WEIGHT_COSINE,
    UPDATE_COSINE,
    UPDATE_GAP,
    PREDICTED_RATIO,
    PREDICTED_COSINE,
)

# What changes about a parameter while it trains, one row for each recorded step (int64, -1: not recorded).
SHARES_WITH: Final = "shares_with"
TRAINABLE: Final = "trainable"
SAME_TENSOR: Final = "same_tensor"
STATE_NAMES: Final = (SHARES_WITH, TRAINABLE, GROUP, SAME_TENSOR)
REPLICAS_DIFFER: Final = "replicas_differ"
"""Of how many processes the copy of a parameter is not that of the first; recorded on request."""


@dataclass(frozen=True)
class Parts:
    """How a fused weight splits into named parts along one of its axes.

    Along ``axis`` of the stored tensor the pattern of ``sizes`` repeats ``repeats`` times. Concatenated q, k, v
    is one repeat of ``(d, d, d)``; q, k, v interleaved by head is ``heads`` repeats of
    ``(head_dim, head_dim, head_dim)``; interleaved gate and up is n repeats of ``(1, 1)``.
    """

    axis: int
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    repeats: int = 1
    source: str = "module"
    """The evidence: ``module``, ``config``, ``convention`` or ``user``."""


@dataclass(frozen=True)
class Address:
    """Where a parameter stands in its model, and what it is."""

    name: str
    path: str
    role: Role
    kind: Kind
    stack: str
    layer: int
    shape: tuple[int, ...]
    dims: tuple[str, ...]
    dtype: str
    trainable: bool = True
    tied_to: str = ""
    module: str = ""
    """Class name of the module that holds it, when a module was there to ask."""
    parts: Parts | None = None
    heads: int = 0
    kv_heads: int = 0
    head_dim: int = 0

    @property
    def numel(self) -> int:
        """Count of elements."""
        total = 1
        for length in self.shape:
            total *= length
        return total


def has_role(role: str, *, own: str, parts: Parts | None) -> bool:
    """Say whether a weight of role `own` does what `role` does, as a whole or in one of its parts."""
    return own == role or (parts is not None and role in parts.names)


def parts_to_json(parts: Parts | None) -> str:
    """Write parts as the text that the ``parts`` column holds ("" for none)."""
    return "" if parts is None else json.dumps(asdict(parts), sort_keys=True)


def parts_from_json(text: str) -> Parts | None:
    """Read what `parts_to_json` wrote."""
    if not text:
        return None
    fields = json.loads(text)
    names, sizes = tuple(fields.pop("names")), tuple(fields.pop("sizes"))
    return Parts(names=names, sizes=sizes, **fields)
