"""What would a model be of which only the config is known: in a folder, or on the Hugging Face hub?"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from torch import nn

from wdyn.errors import InvalidArgument

CONFIG = "config.json"

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_FILE = re.compile(r".*\.(safetensors|pt|pth|bin|ckpt|zarr|json)")


def is_hub_name(text: str) -> bool:
    """Whether a text that is no path could name a model on the hub: ``gpt2``, ``google/gemma-3-1b-it``."""
    return bool(_HUB_NAME.fullmatch(text)) and not _FILE.fullmatch(text)


def model_from_config(source: str | Path) -> nn.Module:
    """Build a model on the meta device, without its weights: only the config is read, and no code of the author's run.

    Parameters
    ----------
    source
        A folder with a ``config.json``, or the name of a model on the hub, which is looked up there unless its config
        lies in the local cache.

    Raises
    ------
    InvalidArgument
        No config is there, the hub cannot be asked, or transformers does not know the kind of model.
    """
    import transformers  # its import takes seconds

    try:
        config = transformers.AutoConfig.from_pretrained(
            str(source), trust_remote_code=False, local_files_only=Path(source).exists() or not online()
        )
        with torch.device("meta"):
            model = _class_of(config)(config)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise InvalidArgument(_failure(source, error)) from error
    dtype = config.dtype if hasattr(config, "dtype") else config.torch_dtype  # the name before transformers 4.56
    made: nn.Module = model.to(dtype) if isinstance(dtype, torch.dtype) else model
    return made


def settings_of(name: str) -> dict[str, Any]:
    """Give the config of a model on the hub, or in the local cache, as its ``config.json`` has it.

    Raises
    ------
    InvalidArgument
        There is no such model, or the hub cannot be asked.
    """
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False, local_files_only=not online())
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise InvalidArgument(_failure(name, error)) from error
    told: dict[str, Any] = config.to_dict()
    return told


def _class_of(config: object) -> Callable[[object], nn.Module]:
    """The class that the weights were saved from, with its head; the bare body where the config does not say."""
    import transformers

    for name in getattr(config, "architectures", None) or ():
        if isinstance(found := getattr(transformers, name, None), type):
            return found
    body: Callable[[object], nn.Module] = transformers.AutoModel.from_config
    return body


def online() -> bool:
    """Whether the hub has an address here: without one, its own client would try for half a minute."""
    host = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co")).hostname
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return bool(getproxies())  # behind a proxy, it is the proxy that finds the address
    return True


def _failure(source: str | Path, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if Path(source).exists():
        return f"{source} has a {CONFIG} of which no model can be made: {reason}"
    return (
        f"Nothing is at {source}, and the Hugging Face hub gave no config under that name, for lack of a connection or "
        f"of such a model: {reason} Give a path, or ask once while online: the config is kept then."
    )
