"""Which tensors does a safetensors file hold, by name, shape and dtype, without reading their values?"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from wdyn.errors import InvalidArgument

SAFETENSORS_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "F8_E8M0": torch.float8_e8m0fnu,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz, "F8_E5M2FNUZ": torch.float8_e5m2fnuz, "C64": torch.complex64,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
"""safetensors' names of element types, with torch's."""


def safetensors_header(file: Path) -> dict[str, Tensor]:
    """Give a tensor without values for each in a file, whose claims are checked against its size.

    Raises
    ------
    InvalidArgument
        It is no safetensors file, or is cut short.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 - it is no mapping
            return {name: _empty(one.get_shape(), one.get_dtype()) for name, one in slices.items()}
    except SafetensorError as error:
        raise InvalidArgument(
            f"{file} is no safetensors file, or is cut short or damaged: {error}. Copy or save it anew."
        ) from error


def _empty(shape: list[int], dtype: str) -> Tensor:
    # An element type that torch lacks (a packed 4-bit one) still has a shape to show.
    return torch.empty(shape, dtype=SAFETENSORS_DTYPES.get(dtype, torch.uint8), device="meta")
