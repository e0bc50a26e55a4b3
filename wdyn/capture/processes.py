"""Is this process one of several that train, and which of them record?"""

from __future__ import annotations

from collections.abc import Mapping

import torch.distributed as dist
from torch import Tensor, nn

from wdyn.capture.pieces import is_spread
from wdyn.errors import InvalidArgument
from wdyn.naming import examples


def rank_and_count() -> tuple[int, int]:
    """Give the number of this process and how many there are; 0 of 1 without a process group."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def check_wrappers(model: nn.Module) -> None:
    """Refuse a model whose parameters show neither their shape nor their values.

    Raises
    ------
    InvalidArgument
        It is wrapped in FSDP1, or in DeepSpeed with a ZeRO stage.
    """
    for module in model.modules():
        name = type(module).__name__
        if name == "FullyShardedDataParallel":
            raise InvalidArgument(
                f"The model holds a {name} (FSDP1), which keeps parameters as pieces of one flat tensor that show "
                f"neither shape nor values. Shard it with torch.distributed.fsdp.fully_shard instead (FSDP2)"
            )
        if type(module).__module__.partition(".")[0] == "deepspeed":
            raise InvalidArgument(
                f"The model is a {name} of DeepSpeed, whose engine steps an optimizer of its own over flat buffers, "
                f"where no hook sees a step. Watch with FSDP2 (torch.distributed.fsdp.fully_shard), or import the "
                f"checkpoints that it saves: wdyn import"
            )
    divided = [name for name, parameter in model.named_parameters() if hasattr(parameter, "ds_id")]
    if divided:
        raise InvalidArgument(
            f"{examples(divided)} is divided by DeepSpeed ZeRO-3, which shows an empty tensor between steps. Watch "
            f"with FSDP2 (torch.distributed.fsdp.fully_shard), or import the checkpoints that it saves: wdyn import"
        )


def stands_by(tensors: Mapping[str, Tensor], *, alone: bool, check_replicas: bool) -> bool:
    """Whether this process leaves all to the first, which holds the same."""
    rank, _ = rank_and_count()
    return rank > 0 and not alone and not check_replicas and not any(map(is_spread, tensors.values()))


def records_together(tensors: Mapping[str, Tensor], *, alone: bool, check_replicas: bool) -> bool:
    """Whether every process gives a share of what is recorded.

    Raises
    ------
    InvalidArgument
        This one is to record alone, and holds pieces only.
    """
    spread = [name for name, tensor in tensors.items() if is_spread(tensor)]
    if alone and spread:
        raise InvalidArgument(
            f"alone=True, but {examples(spread)} is a DTensor, of which other processes hold pieces. Where all "
            f"processes train one model, leave it out, and call watch(...) in each with the same arguments. Stages of "
            f"a pipeline whose parameters are DTensors over a part of the processes cannot be recorded yet"
        )
    return bool(spread) or (check_replicas and not alone and rank_and_count()[1] > 1)
