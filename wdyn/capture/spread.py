"""What does a model hold now whose parameters are spread over processes?"""

from __future__ import annotations

from torch import Tensor, nn

from wdyn.capture.pieces import is_spread
from wdyn.capture.sharing import Sharing
from wdyn.capture.tensors import named_tensors
from wdyn.errors import InvalidArgument
from wdyn.naming import examples


def divided_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Give the live tensors of a model by name, those of FSDP2 as pieces again where a forward has left them whole.

    After a forward whose backward did not follow, such as an evaluation, FSDP2 leaves the outermost module as whole
    tensors, in the dtype of the computation. Then it is asked to show the pieces again, which needs no other process.
    """
    live = named_tensors(model)
    if any(not is_spread(tensor) for tensor in live.values()) and _reshard(model):
        return named_tensors(model)
    return live


def live_tensors(model: nn.Module, sharing: Sharing) -> dict[str, Tensor]:
    """Give the live tensors of a model by name, as they were divided among processes when recording began.

    Raises
    ------
    InvalidArgument
        What was whole when recording began is divided now, or the other way round.
    """
    live = named_tensors(model)
    if not (changed := _changed(live, sharing)):
        return live
    _reshard(model)
    live = named_tensors(model)
    if changed := _changed(live, sharing):
        raise InvalidArgument(
            f"{examples(changed)} was divided among processes, or put together, since recording began. Shard the model "
            f"before watch(...), and end the block before it is gathered"
        )
    return live


def _reshard(model: nn.Module) -> bool:
    """Have FSDP2 show pieces; whether any module is one of its."""
    found = [one for one in model.modules() if hasattr(one, "unshard") and hasattr(one, "reshard")]
    for module in found:
        module.reshard()  # type: ignore[operator]  # of an FSDPModule
    return bool(found)


def _changed(live: dict[str, Tensor], sharing: Sharing) -> list[str]:
    """Names of those that are spread and were not, or were and are not."""
    if not sharing.is_shared:
        return [name for name, tensor in live.items() if is_spread(tensor)]
    return [
        name for name, tensor in live.items() if name in sharing.divisions and is_spread(tensor) != sharing.spread(name)
    ]
