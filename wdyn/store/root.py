"""What does the root `zarr.json` of a run say, and is it a run that this wdyn can read?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wdyn import schema
from wdyn.errors import DamagedRun, NewerFormat, NotARun
from wdyn.store import metadata
from wdyn.store.metadata import Node


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
        Its `zarr.json` is no JSON.
    """
    document = _load(path)
    attributes = document.get("attributes", {}).get(schema.ATTRIBUTES) if isinstance(document, dict) else None
    if not isinstance(attributes, dict) or not isinstance(attributes.get("format"), int):
        raise NotARun(f"{path} is a Zarr group, but wdyn did not write it: its attributes hold no 'wdyn.format'")
    if attributes["format"] > schema.FORMAT:
        raise NewerFormat(
            f"{path} has format {attributes['format']}, this wdyn reads up to {schema.FORMAT}; "
            f"upgrade with: pip install --upgrade wdyn"
        )
    inline = document.get("consolidated_metadata") or {}
    return Root(attributes, inline.get("metadata", {}))


def _load(path: Path) -> Any:
    try:
        text = (path / metadata.FILE).read_bytes()
    except FileNotFoundError as error:
        found = "exists, but holds no zarr.json" if path.exists() else "does not exist"
        raise NotARun(f"No run at {path}: it {found}. A run is the folder that watch(..., to=...) names") from error
    except NotADirectoryError as error:
        raise NotARun(f"No run at {path}: it is a file, and a run is a folder") from error
    try:
        return json.loads(text)
    except ValueError as error:
        raise DamagedRun(f"{path / metadata.FILE} is damaged: {error}") from error
