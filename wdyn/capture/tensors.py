"""Which tensors does a model hold now, under which names, and which module owns each?

Nothing is remembered between calls: training code replaces parameters (``load_state_dict(assign=True)``,
``to_empty()``, a cast), and a reference kept from before would silently show a tensor that no longer trains.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized

from wdyn.naming import canonical_names


@dataclass(frozen=True)
class Leaf:
    """One tensor as its owner holds it. `chain` lists the modules above it, root first (empty for a state dict)."""

    name: str
    tensor: torch.Tensor
    buffer: bool = False
    chain: tuple[nn.Module, ...] = ()

    @property
    def owner(self) -> nn.Module | None:
        """The module whose forward uses the tensor: of a parametrised weight, the module that it is a weight of."""
        for at, module in enumerate(self.chain):
            if isinstance(module, ParametrizationList):
                return self.chain[at - 2]
        return self.chain[-1] if self.chain else None

    @property
    def module(self) -> str:
        """Class name of the owner ("" when there is none to ask)."""
        owner = self.owner
        return "" if owner is None else class_name(owner)

    @property
    def dtype(self) -> str:
        """torch's name of the element type, such as ``bfloat16``."""
        return str(self.tensor.dtype).removeprefix("torch.")


def class_name(module: nn.Module) -> str:
    """Name the class of a module as its author did: torch makes subclasses, such as ParametrizedLinear, FSDPLinear."""
    own = type(module)
    if is_parametrized(module):
        own = own.__bases__[0]
    if own.__bases__[0].__name__ == "FSDPModule":
        own = own.__bases__[1]
    return own.__name__


def model_leaves(model: nn.Module) -> list[Leaf]:
    """Parameters in the order of ``named_parameters(remove_duplicate=False)``, then persistent buffers.

    Parameters that a lazy module has not made yet are left out; `uninitialised` names them.
    """
    found = [*_walk(model, buffers=False), *_walk(model, buffers=True)]
    names = canonical_names(raw for raw, *_ in found)
    return [
        Leaf(names[raw], tensor, buffer, chain) for raw, tensor, buffer, chain in found if buffer or not is_lazy(tensor)
    ]


def state_leaves(state: Mapping[str, object]) -> list[Leaf]:
    """Every tensor of a state dict, in its order."""
    tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    names = canonical_names(tensors)
    return [Leaf(names[name], tensor) for name, tensor in tensors.items()]


def named_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Canonical name -> live parameter or persistent buffer, tied names included."""
    return {leaf.name: leaf.tensor for leaf in model_leaves(model)}


def uninitialised(model: nn.Module) -> list[str]:
    """Canonical names of the parameters that lazy modules will make at their first forward."""
    found = list(_walk(model, buffers=False))
    names = canonical_names(raw for raw, *_ in found)
    return [names[raw] for raw, tensor, *_ in found if is_lazy(tensor)]


_Found = tuple[str, torch.Tensor, bool, tuple[nn.Module, ...]]


def _walk(model: nn.Module, *, buffers: bool) -> Iterator[_Found]:
    """Visit (raw name, tensor, is buffer, modules above) the way that torch names them, shared modules each time."""
    above: dict[str, tuple[nn.Module, ...]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        parent = path.rpartition(".")[0]
        above[path] = (*above.get(parent, ()), module) if path else (module,)
        held = module._buffers if buffers else module._parameters
        for key, tensor in held.items():
            if tensor is None or (buffers and key in module._non_persistent_buffers_set):
                continue
            yield (f"{path}.{key}" if path else key), tensor, buffers, above[path]
