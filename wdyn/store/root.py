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
        Its `zarr.json` cannot be read, is no JSON, or lacks what every run has.
    """
    document = _load(path)
    attributes = _member(_member(document, "attributes"), schema.ATTRIBUTES)
    if not isinstance(attributes, dict) or not isinstance(attributes.get("format"), int):
        raise NotARun(f"{path} is Zarr, but no run that wdyn wrote: its attributes hold no 'wdyn.format'")
    if attributes["format"] > schema.FORMAT:
        raise NewerFormat(
            f"{path} has format {attributes['format']}, this wdyn reads up to {schema.FORMAT}; "
            f"upgrade with: pip install --upgrade wdyn"
        )
    try:
        root = Root(attributes, document["consolidated_metadata"]["metadata"])
        numbered = [attempt["number"] for attempt in attributes["attempts"]]
    except (KeyError, TypeError) as error:
        raise DamagedRun(f"{path / metadata.FILE} is damaged: {error!r} is not there") from error
    if numbered != list(range(len(numbered))) or not numbered:
        raise DamagedRun(f"{path / metadata.FILE} is damaged: its attempts are numbered {numbered}")
    return root


def _member(document: Any, name: str) -> Any:
    return document.get(name) if isinstance(document, dict) else None


def _load(path: Path) -> Any:
    try:
        text = (path / metadata.FILE).read_bytes()
    except FileNotFoundError as error:
        found = "exists, but holds no zarr.json" if path.exists() else "does not exist"
        raise NotARun(f"No run at {path}: it {found}. A run is the folder that watch(..., to=...) names") from error
    except NotADirectoryError as error:
        raise NotARun(f"No run at {path}: it is a file, and a run is a folder") from error
    except OSError as error:
        raise DamagedRun(f"{path / metadata.FILE} cannot be read: {error}") from error
    try:
        return json.loads(text)
    except ValueError as error:
        raise DamagedRun(f"{path / metadata.FILE} is damaged: {error}") from error
