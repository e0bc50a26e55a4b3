"""Where does a saved model of the Hugging Face hub lie on this machine, once it was fetched?"""

from __future__ import annotations

from pathlib import Path

from wdyn.checkpoints.configs import online
from wdyn.errors import InvalidArgument

_BESIDE = ("*.json", "*.txt", "*.model")
_SAFE = ("*.safetensors", *_BESIDE)
_PICKLED = ("pytorch_model*.bin", "adapter_model.bin", *_BESIDE)


def fetched(name: str, *, revision: str | None) -> Path:
    """Fetch a model from the hub, or find it in the local cache; give its folder.

    Raises
    ------
    InvalidArgument
        The hub has no such model or revision, or it cannot be reached and the cache has none.
    """
    folder = _snapshot(name, revision, _SAFE)
    return folder if any(folder.glob("*.safetensors")) else _snapshot(name, revision, _PICKLED)


def _snapshot(name: str, revision: str | None, patterns: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download  # its import takes a while

    connected = online()
    try:
        return Path(
            snapshot_download(name, revision=revision, allow_patterns=list(patterns), local_files_only=not connected)
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        why = f"it says: {reason}" if connected else "it cannot be reached, and the local cache does not have it"
        wanted = f"{name} at revision {revision}" if revision else name
        raise InvalidArgument(
            f"Nothing is at {name}, and the Hugging Face hub gave no {wanted}: {why}. Give a path, or fetch it once "
            "while online: it is kept then."
        ) from error
