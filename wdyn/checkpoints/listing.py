"""Which saved models lie in a folder?"""

from __future__ import annotations

import re
from pathlib import Path

from wdyn.checkpoints.distributed import is_distributed
from wdyn.checkpoints.files import SUFFIXES, is_model, is_weights_file, natural
from wdyn.errors import InvalidArgument

_ALIAS = re.compile(r"(last|latest|best|final|current)\b|(last|latest|best|final)[-_.]", re.IGNORECASE)


def saved_models(folder: Path) -> list[Path]:
    """List the saved models that a folder is or holds, in the natural order of their names.

    ``epoch_2`` comes before ``epoch_10``. Where there are folders of checkpoints, what lies beside them is not
    listed: it is the model at the end.

    Raises
    ------
    InvalidArgument
        There is none.
    """
    if is_distributed(folder):
        return [folder]
    inside = sorted((one for one in folder.iterdir() if not one.name.startswith(".")), key=natural)
    folders = [one for one in inside if one.is_dir() and is_model(one)]
    if folders:
        return folders
    if is_model(folder):
        return [folder]
    files = [one for one in inside if is_weights_file(one)]
    if files:
        return files
    raise InvalidArgument(
        f"No saved model lies in {folder}: needed are files {' '.join(SUFFIXES)}, or folders that transformers, PEFT "
        f"or torch.distributed.checkpoint wrote"
    )


def is_alias(path: Path) -> bool:
    """Whether a name says which one of a series it is, rather than when it was saved: ``last.ckpt``, ``best.pt``."""
    return path.is_symlink() or bool(_ALIAS.match(path.name))
