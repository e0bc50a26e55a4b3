"""What do the optimizers hold of each parameter: its moments, by the names that they give them?"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor
from torch.optim import Optimizer

from wdyn.capture.pieces import like
from wdyn.naming import with_checksum
from wdyn.schema import Quantity

_PLAIN = re.compile(r"[a-z][a-z0-9_]{0,59}")


def moments(optimizers: Sequence[Optimizer], tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Give every tensor of the optimizers' state that is shaped like its parameter.

    No state is made: that of most optimizers is a ``defaultdict``, where looking is making.

    Parameters
    ----------
    tensors
        The parameters themselves, by name.

    Returns
    -------
    dict
        By the key of the state, such as ``exp_avg``, the tensors by name of the parameter.
    """
    found: dict[str, dict[str, Tensor]] = {}
    for optimizer in optimizers:
        for name, tensor in tensors.items():
            for key, value in optimizer.state.get(tensor, {}).items():
                shaped = isinstance(value, Tensor) and value.shape == tensor.shape and key != "step"
                if shaped and (held := like(value, tensor)) is not None:
                    found.setdefault(str(key), {})[name] = held
    return found


def quantity_name(key: str) -> str:
    """Name the quantity of a key of the state: the key itself where that is plain, safe as a path, and not taken.

    Any other gets a checksum: the same one in every run, whatever came before it.
    """
    return key if _PLAIN.fullmatch(key) and key not in set(Quantity) else with_checksum(key)
