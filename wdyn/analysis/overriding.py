"""Which embeddings carry the first values of the output head that they are tied to, instead of their own?"""

from __future__ import annotations

from collections import Counter

import numpy as np
import xarray as xr

from wdyn import schema
from wdyn.analysis.fans import RESIDUAL
from wdyn.analysis.telling import names_where
from wdyn.analysis.verdicts import NOT_AS_MEANT
from wdyn.schema import Kind, Role

EMBEDDINGS = (Role.EMBEDDING, Role.POS_EMBEDDING, Role.TYPE_EMBEDDING)
NOT_LINEAR = (*EMBEDDINGS, Role.UNEMBEDDING, Role.NORM, Role.CONV, Role.SSM, Role.PATCH_EMBEDDING, Role.OTHER)
"""Roles whose initialization does not tell how the model treats its linear layers."""


def replaced(result: xr.Dataset) -> list[str]:
    """Name the embeddings that carry the values of the head they are tied to, where their own would differ.

    That they would is told by the embeddings that are not tied, or by a rule that was meant and is not followed.
    """
    linear = _usual_rule(result)
    own = own_embeddings(result)
    follow = any(linear in _rules(result.sel({schema.PARAMETER: name})) for name in own)
    names = []
    for name in names_where(result, np.isin(result["role"].values, EMBEDDINGS)):
        sharing = partners(result, name)
        one = result.sel({schema.PARAMETER: name})
        heads = [other for other in sharing if result["role"].sel({schema.PARAMETER: other}).item() == Role.UNEMBEDDING]
        told = not follow if own else one["verdict"].item() == NOT_AS_MEANT
        if heads and linear and linear in _rules(one) and told:
            names.append(name)
    return names


def own_embeddings(result: xr.Dataset) -> list[str]:
    """Name the embeddings that share their weight with nothing, and so kept their own first values."""
    kinds = np.isin(result["role"].values, EMBEDDINGS) & (result["std"].values > 0)
    return [name for name in names_where(result, kinds) if len(partners(result, name)) == 1]


def own_rule(result: xr.Dataset) -> str:
    """Say which values an embedding has that is not tied: what the tied one would have been, most likely."""
    own = own_embeddings(result)
    if not own:
        return ""
    one = result.sel({schema.PARAMETER: own[0]})
    rule = f", {one['rule'].item()}" if one["rule"].item() else ""
    return f"; {own[0]}, which is not tied, kept its own (std {float(one['std']):.4g}{rule})"


def _usual_rule(result: xr.Dataset) -> str:
    """Name the rule of most linear layers that do not add to the residual stream; "" where none is known."""
    linear = (result["kind"].values == Kind.WEIGHT) & ~np.isin(result["role"].values, [*NOT_LINEAR, *RESIDUAL])
    found = result["rule"].values[linear & (result["std"].values > 0)].tolist()
    rules = Counter(rule for rule in found if rule and ": " not in rule)  # where parts differ, no one rule is told
    return rules.most_common(1)[0][0] if rules else ""


def _rules(one: xr.Dataset) -> set[str]:
    return {one["rule"].item(), *one["also"].item().split("; ")}


def partners(result: xr.Dataset, name: str) -> list[str]:
    """Name all that share one weight with `name`, itself included."""
    tied = result["tied_to"].to_series()
    root = tied[name] or name
    return [str(other) for other, to in tied.items() if root in (other, to)]
