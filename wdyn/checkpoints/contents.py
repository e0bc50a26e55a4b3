"""Which models, and what else, does a file hold in which a training script nested its state?"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from wdyn.errors import InvalidArgument
from wdyn.naming import examples

TOP = ""
"""The label of tensors that stand at the top of a file, under their own names."""

_MODEL_KEYS = ("state_dict", "model_state_dict", "model", "module", "net", "network", "weights", "params")
_OTHER_STATE = re.compile(r"optim|sched|scaler|rng|random|callback|loop|metric|hyper_param|config|args|history|loader")
_DEEPEST, _BOTTOM = 4, 20

Number = bool | int | float


@dataclass(frozen=True)
class Contents:
    """What a file holds.

    Attributes
    ----------
    called
        What messages call the file.
    tree
        Mappings, lists, numbers and tensors, as they were nested.
    value
        Gives the values of a tensor of the tree, which may itself have none.
    """

    called: str
    tree: object
    value: Callable[[Tensor], Tensor] = lambda tensor: tensor


@dataclass(frozen=True)
class Tensors:
    """Tensors of a tree, under names, as a `wdyn.checkpoints.saved.Source`."""

    headers: Mapping[str, Tensor]
    value: Callable[[Tensor], Tensor]

    def read(self, name: str) -> Tensor:
        """Read one tensor."""
        return self.value(self.headers[name]).detach()


@dataclass(frozen=True)
class Model:
    """A model in a file: its tensors by name, and where they stood; what is no tensor is told in `notes`."""

    source: Tensors
    label: str
    notes: tuple[str, ...] = ()


def model_in(contents: Contents, *, key: str | None) -> Model:
    """Find the model in a file.

    Raises
    ------
    InvalidArgument
        There is none, or there are several and `key` names none of them.
    """
    models = dict(_models(contents.tree))
    if not models:
        raise InvalidArgument(
            f"No weights are in {contents.called}: it holds {words(contents.tree)}. Needed is a state dict, names and "
            f"their tensors, as torch.save(model.state_dict(), ...) writes it"
        )
    label = _chosen(models, contents.called, key=key)
    tensors = {str(name): value for name, value in models[label].items() if isinstance(value, Tensor)}
    source = Tensors({name: one for name, one in tensors.items() if _has_place(one)}, contents.value)
    others = {str(name): value for name, value in models[label].items() if str(name) not in source.headers}
    beside = {name: value for name, value in others.items() if label != TOP}
    found = [f"{name} ({words(value)})" for name, value in beside.items()]
    notes = (f"Left out of {contents.called}, being no weights: {examples(found)}",) if found else ()
    return Model(source, label, notes)


def mappings(tree: object, *, depth: int = _DEEPEST) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """Give every mapping in a tree with its label, the keys that lead to it joined by dots; lists count as mappings."""
    node = dict(enumerate(tree)) if isinstance(tree, list | tuple) else tree
    if not isinstance(node, Mapping):
        return
    yield TOP, node
    if depth:
        for key, value in node.items():
            for label, inside in mappings(value, depth=depth - 1):
                yield f"{key}.{label}" if label else str(key), inside


def tensors_in(tree: object) -> Iterator[tuple[str, Tensor]]:
    """Give every tensor in a tree with its label, however deep it is; one that stands in two places comes twice."""
    for label, node in mappings(tree, depth=_BOTTOM):
        yield from ((f"{label}.{key}".lstrip("."), value) for key, value in node.items() if isinstance(value, Tensor))


def fields(tree: object) -> dict[str, float]:
    """Give the plain numbers at the top of a file, by name; one-element tensors are left alone."""
    if not isinstance(tree, Mapping):
        return {}
    numbers = {str(key): value for key, value in tree.items() if isinstance(value, Number | np.number)}
    return {key: float(value) for key, value in numbers.items() if not isinstance(value, bool | np.bool_)}


def words(value: object) -> str:
    """Say in words what something is: ``a list of 6 numbers``, ``a mapping of epoch, optimizer and 2 more``."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}, {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, Mapping):
        return f"a mapping of {examples(map(str, value))}" if value else "an empty mapping"
    if isinstance(value, list | tuple):
        kinds = {_kind(one) for one in value}
        return f"a {type(value).__name__} of {len(value)} {kinds.pop() if len(kinds) == 1 else 'things'}"
    return f"a {type(value).__name__}"


def _kind(value: object) -> str:
    if isinstance(value, Number | np.number):
        return "numbers"
    return "tensors" if isinstance(value, Tensor) else f"{type(value).__name__}s"


def _models(tree: object) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """Give what may be a model; what stands at the top beside nested ones is state of another kind."""
    nodes = dict(mappings(tree))
    optimizers = [f"{label}." if label else TOP for label, node in nodes.items() if "param_groups" in node]
    rest = {label: node for label, node in nodes.items() if not f"{label}.".startswith(tuple(optimizers))}
    found = {label: node for label, node in rest.items() if _is_model(label, node)}
    if len(found) > 1:
        found.pop(TOP, None)
    yield from found.items()


def _is_model(label: str, node: Mapping[Any, Any]) -> bool:
    if any(_OTHER_STATE.search(component.lower()) for component in label.split(".")):
        return False
    return any(isinstance(name, str) and _is_weight(value) for name, value in node.items())


def _is_weight(value: object) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0 and (value.is_floating_point() or value.is_complex())


def _has_place(tensor: Tensor) -> bool:
    """Whether a tensor lies in memory as an array does: no sparse or quantised one."""
    return str(tensor.layout) == "torch.strided" and not tensor.is_quantized


def _chosen(models: Mapping[str, Mapping[Any, Any]], called: str, *, key: str | None) -> str:
    if key is not None:
        if key in models:
            return key
        raise InvalidArgument(f"{called} holds no model under {key!r}. It holds {_listed(models)}")
    if len(models) == 1:
        return next(iter(models))
    raise InvalidArgument(f"{called} holds {len(models)} models: {_listed(models)}. Say which: key=..., or --key")


def _listed(models: Mapping[str, Mapping[Any, Any]]) -> str:
    found = [f"{label or '(top)'!r} ({len(node)} tensors)" for label, node in models.items()]
    return ", ".join(found[:20]) + (f" and {len(found) - 20} more" if len(found) > 20 else "")
