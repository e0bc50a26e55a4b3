"""What does a small JSON file beside a saved model say, if it is there?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wdyn.checkpoints.claims import read_json


def json_beside(file: Path) -> dict[str, Any]:
    """Read a JSON object; empty where the file is not there.

    Raises
    ------
    InvalidArgument
        It is there, and is no JSON object.
    """
    return read_json(file) if file.is_file() else {}
