"""What does the root `zarr.json` of a run say, and is it a run that this wdyn can read?"""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from wdyn import schema
from wdyn.errors import DamagedRun, NewerFormat, NotARun
from wdyn.store import metadata, trusting
from wdyn.store.metadata import Node

_MOST_BYTES: Final = 2**28
"""Size of metadata that no run has: a thousand arrays take half a megabyte."""


@dataclass(frozen=True)
class Root:
    """The committed state of a run: wdyn's attributes, and the metadata of every node by path."""

    attributes: Mapping[str, Any]
    nodes: Mapping[str, Node]

    def members(self, group: str) -> dict[str, Node]:
        """Metadata of the arrays directly in `group`, by name."""
        parents = ((path.rpartition("/"), node) for path, node in self.nodes.items())
        return {name: node for (parent, _, name), node in parents if parent == group and node["node_type"] == "array"}

    def groups_with(self, array: str) -> list[str]:
        """Paths of the groups that hold an array of that name, in order."""
        return [path for path, node in self.nodes.items() if f"{path}/{array}" in self.nodes]


def is_run(path: Path) -> bool:
    """Whether a run, of whatever format, lies at `path`."""
    try:
        read_root(path)
    except NotARun:
        return False
    except (NewerFormat, DamagedRun):
        return True
    return True


def read_root(path: Path) -> Root:
    """Read the root metadata of a run.

    Raises
    ------
    NotARun
        Nothing is at `path`, or something that wdyn did not write.
    NewerFormat
        A later wdyn wrote it.
    DamagedRun
        Its `zarr.json` cannot be read, is no JSON, or lacks what every run has.
    """
    document = _load(path)
    attributes = _member(_member(document, "attributes"), schema.ATTRIBUTES)
    if not isinstance(attributes, dict) or type(attributes.get("format")) is not int:
        raise NotARun(f"{path} is Zarr, but no run that wdyn wrote: its attributes hold no 'wdyn.format'")
    if attributes["format"] > schema.FORMAT:
        raise NewerFormat(
            f"{path} has format {attributes['format']}, this wdyn reads up to {schema.FORMAT}; "
            f"upgrade with: pip install --upgrade wdyn"
        )
    inline = _member(document, "consolidated_metadata")
    try:
        trusting.check_attributes(attributes)
        trusting.check_nodes(_member(inline, "metadata"))
    except ValueError as error:
        raise DamagedRun(f"{path / metadata.FILE} is damaged: {error}") from error
    return Root(attributes, inline["metadata"])


def _member(document: Any, name: str) -> Any:
    return document.get(name) if isinstance(document, dict) else None


def _load(path: Path) -> Any:
    try:
        text = read_document(path / metadata.FILE)
    except FileNotFoundError as error:
        found = "exists, but holds no zarr.json" if path.exists() else "does not exist"
        raise NotARun(f"No run at {path}: it {found}. A run is the folder that watch(..., to=...) names") from error
    except NotADirectoryError as error:
        raise NotARun(f"No run at {path}: it is a file, and a run is a folder") from error
    except (OSError, ValueError) as error:
        raise DamagedRun(f"{path / metadata.FILE} cannot be read: {error}") from error
    try:
        return parsed(text)
    except ValueError as error:
        raise DamagedRun(f"{path / metadata.FILE} is damaged: {error}") from error


def read_document(file: Path) -> bytes:
    """Read a `zarr.json`.

    Raises
    ------
    OSError, ValueError
        It cannot be read, is no file, or is larger than any run's.
    """
    about = file.stat()
    if not stat.S_ISREG(about.st_mode) and not stat.S_ISDIR(about.st_mode):  # a pipe would keep a reader waiting
        raise ValueError("it is no file")
    if about.st_size > _MOST_BYTES:
        raise ValueError(f"it has {about.st_size:,} bytes, and can have {_MOST_BYTES:,} at most")
    return file.read_bytes()


def parsed(text: bytes) -> Any:
    """Read JSON.

    Raises
    ------
    ValueError
        It is none, or deeper than a run's can be.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
