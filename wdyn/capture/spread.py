"""What does a model hold now whose parameters are spread over processes?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from wdyn.capture.pieces import is_spread
from wdyn.capture.sharing import Sharing
from wdyn.capture.tensors import named_tensors
from wdyn.errors import InvalidArgument
from wdyn.naming import examples


def divided_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Give the live tensors of a model by name, those of FSDP2 as the pieces that train.

    After a forward whose backward did not follow, such as an evaluation, FSDP2 leaves the outermost module as whole
    tensors, in the dtype of the computation. The pieces are there beside them, and are the ones that the optimizer has.
    To have FSDP2 put them back would change what its next forward says to other processes.
    """
    live = named_tensors(model)
    if all(map(is_spread, live.values())):
        return live
    pieces = dict(_pieces(model))
    return {name: pieces.get(id(tensor), tensor) for name, tensor in live.items()}


def live_tensors(model: nn.Module, sharing: Sharing) -> dict[str, Tensor]:
    """Give the live tensors of a model by name, as they were divided among processes when recording began.

    Raises
    ------
    InvalidArgument
        What was whole when recording began is divided now, or the other way round.
    """
    live = named_tensors(model)
    if _changed(live, sharing):
        live = divided_tensors(model)
    if changed := _changed(live, sharing):
        raise InvalidArgument(
            f"{examples(changed)} was divided among processes, or put together, since recording began. Shard the model "
            f"before watch(...), and end the block before it is gathered"
        )
    return live


def _pieces(model: nn.Module) -> Iterator[tuple[int, Tensor]]:
    """The pieces of what FSDP2 shows at this moment, by the ``id`` of what it shows.

    torch tells them nowhere else; where it is built otherwise, none are found.
    """
    for module in model.modules():
        state = getattr(module, "_get_fsdp_state", lambda: None)()
        group = getattr(state, "_fsdp_param_group", None)
        for one in getattr(group, "fsdp_params", ()):
            info = one._module_info
            shown_by = [(info.module, info.param_name), *zip(info.shared_modules, info.shared_param_names, strict=True)]
            for owner, name in shown_by:
                if (shown := owner._parameters.get(name)) is not None:
                    yield id(shown), one.sharded_param


def _changed(live: Mapping[str, Tensor], sharing: Sharing) -> list[str]:
    """Names of those that are spread and were not, or were and are not."""
    if not sharing.is_shared:
        return [name for name, tensor in live.items() if is_spread(tensor)]
    return [
        name for name, tensor in live.items() if name in sharing.divisions and is_spread(tensor) != sharing.spread(name)
    ]
