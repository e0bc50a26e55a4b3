"""What did the metadata and the labels of a run say, by the copies that stand elsewhere in it?

Each group says of itself, and of all that stands in it, what the root says of it. Labels stand in their table and
beside the columns of each group. What an array of weights is stands in its attributes and in the table.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wdyn import bins, schema
from wdyn.store import metadata
from wdyn.store.examining import Examination
from wdyn.store.leftovers import GROUPS
from wdyn.store.metadata import Node
from wdyn.store.root import Root, parsed, read_document
from wdyn.store.trusting import check_attributes, check_nodes

_LABELS = (schema.PARAMETER, schema.PART)
_INLINE = "consolidated_metadata"
_UNKNOWN: dict[str, Any] = {"string": "", "bool": False}


def root_by_groups(path: Path, attributes: Mapping[str, Any]) -> Root:
    """Put the root together from what each group says, and `attributes`, as far as those are known.

    Raises
    ------
    ValueError
        Too little is left of it.
    """
    nodes: dict[str, Node] = {}
    for name, document in sorted(_documents(path), key=lambda found: found[0].count("/")):
        inside = (document.pop(_INLINE, None) or {}).get("metadata", {})
        nodes |= {name: document, **{f"{name}/{member}": node for member, node in inside.items()}}
    for name in list(nodes):
        for parent in list(Path(name).parents)[:-1]:
            nodes.setdefault(parent.as_posix(), metadata.group())
    if schema.STATES not in nodes:
        raise ValueError("its groups do not say either what is in it")
    check_nodes(nodes)
    rows = {name: nodes[f"{name}/{schema.STEP}"]["shape"][0] for name in nodes if f"{name}/{schema.STEP}" in nodes}
    known = {**attributes, "format": schema.FORMAT, "rows": rows}
    if "attempts" not in attributes:
        known |= {"attempts": _attempts(Examination(path, Root({"attempts": []}, nodes))), "closed": False}
    check_attributes(known)
    return Root(known, nodes)


def statics(run: Examination, name: str) -> npt.NDArray[Any]:
    """Give the values of an array without rows, from their copies; what has none is as if it had not been known."""
    group, _, array = name.rpartition("/")
    node = run.root.nodes[name]
    if array == schema.LAYER and group.startswith(schema.WEIGHTS):
        return np.array(run.root.nodes[group]["attributes"][schema.ATTRIBUTES]["layers"], dtype=np.int64)
    if array in (schema.LOWER, schema.UPPER):
        return bins.edges()[array == schema.UPPER]
    if array in _LABELS and node["dimension_names"] == [array]:
        return _labels(run, array, node["shape"][0])
    return _column(run, group, array, node)


def _documents(path: Path) -> Iterator[tuple[str, Node]]:
    for group in GROUPS:
        for file in (path / group).rglob(metadata.FILE):
            try:
                document = parsed(read_document(file))
            except (OSError, ValueError):
                continue
            if isinstance(document, dict) and document.get("node_type") == "group":
                yield file.parent.relative_to(path).as_posix(), document


def _attempts(run: Examination) -> list[dict[str, int]]:
    """Tell from the rows which attempts there were, and where each of them began."""
    steps, by = run.values(f"{schema.STATES}/{schema.STEP}"), run.values(f"{schema.STATES}/{schema.ATTEMPT}")
    if steps is None or by is None or not len(by):
        return [{"number": 0, "resumed_from_step": -1}]
    began = {int(number): int(steps[by == number].min()) for number in np.unique(by)}
    return [
        {"number": number, "resumed_from_step": began.get(number, 0) if number else -1}
        for number in range(max(began) + 1)
    ]


def _labels(run: Examination, dim: str, length: int) -> npt.NDArray[Any]:
    copies = (run.values(name) for name in run.arrays() if name.rpartition("/")[2] == dim and _is_label(run, name, dim))
    whole = [values for values in copies if values is not None and len(values) >= length]
    if not whole:
        return np.array([f"unknown {number}" for number in range(length)])
    return whole[0][:length]


def _is_label(run: Examination, name: str, dim: str) -> bool:
    return bool(run.root.nodes[name]["dimension_names"] == [dim])


def _column(run: Examination, table: str, column: str, node: Node) -> npt.NDArray[Any]:
    """Fill a column of a table by what arrays of weights say of themselves."""
    text = node["data_type"] == "string"
    found = np.full(node["shape"][0], _UNKNOWN.get(node["data_type"], -1), dtype=object if text else node["data_type"])
    names = run.values(f"{table}/{schema.PARAMETER}")
    if table != schema.PARAMETERS or names is None:
        return found
    for at, name in enumerate(names.tolist()):
        found[at] = _told(run).get(name, {}).get(column, found[at])
    return found


def _told(run: Examination) -> dict[str, dict[str, Any]]:
    """What is known of each parameter whose weights are kept."""
    known: dict[str, dict[str, Any]] = {}
    for path, node in run.root.nodes.items():
        about = node["attributes"].get(schema.ATTRIBUTES, {})
        if path.startswith(f"{schema.WEIGHTS}/") and node["node_type"] == "group":
            shared = {
                **{name: about[name] for name in ("path", "role", "stack", "dtype")},
                "shape": json.dumps(about["shape"]),
                "dims": json.dumps(about["dims"]),
                "numel": int(np.prod(about["shape"], dtype=np.int64)),
                schema.WEIGHTS: path.rpartition("/")[2],
            }
            for name, layer in zip(about["names"], about["layers"] or [schema.NO_LAYER], strict=True):
                known[name] = {**shared, schema.LAYER: layer}
    return known
