"""Do the parts of a run agree: rows with steps, columns with tables, and each copy of metadata with the root?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wdyn import schema
from wdyn.naming import examples
from wdyn.store import metadata, sealing
from wdyn.store.damage import Damage
from wdyn.store.examining import Examination
from wdyn.store.metadata import Node
from wdyn.store.root import parsed, read_document

_TABLES = {schema.PARAMETER: schema.PARAMETERS, schema.PART: schema.PARTS}


def disagreements(run: Examination) -> Iterator[Damage]:
    """Give what does not fit together, though each file may be as it was written."""
    yield from _root(run)
    yield from _documents(run)
    for group in run.root.groups_with(schema.STEP):
        yield from _rows(run, group)
        yield from _labels(run, group)
    yield from _weights(run)


def _root(run: Examination) -> Iterator[Damage]:
    reason = "its checksum does not fit: it was changed since it was written"
    try:
        whole = sealing.is_as_written(read_document(run.path / metadata.FILE))
    except (OSError, ValueError) as error:
        whole, reason = False, f"it cannot be read: {error}"
    if not whole:
        yield Damage(metadata.FILE, "", (), (), reason)


def _documents(run: Examination) -> Iterator[Damage]:
    """Compare what each group and array says of itself with the root."""
    closed = run.root.attributes.get("closed") is True
    for path, node in run.root.nodes.items():
        file = f"{path}/{metadata.FILE}"
        try:
            own = parsed(read_document(run.path / file))
        except FileNotFoundError:
            if closed:
                yield Damage(file, path, (), (), "it is missing")
            continue
        except (OSError, ValueError) as error:
            yield Damage(file, path, (), (), f"it cannot be read: {error}")
            continue
        expected = {**node, "consolidated_metadata": _inline(run.root.nodes, path)} if _is_group(node) else node
        if not (own == expected if closed else _is_earlier(own, node)):
            yield Damage(file, path, (), (), "it does not say what the root says")


def _inline(nodes: Mapping[str, Node], path: str) -> Node:
    inside = {name.removeprefix(f"{path}/"): node for name, node in nodes.items() if name.startswith(f"{path}/")}
    return {"kind": "inline", "must_understand": False, "metadata": inside}


def _is_earlier(own: Any, node: Node) -> bool:
    """Whether a description may be one of the same node at another length: it is brought up to date last."""
    if not isinstance(own, dict) or own.get("node_type") != node["node_type"]:
        return False
    fixed = () if _is_group(node) else ("data_type", "chunk_grid", "codecs", "dimension_names", "fill_value")
    return all(own.get(name) == node[name] for name in fixed)


def _is_group(node: Node) -> bool:
    return bool(node["node_type"] == "group")


def _rows(run: Examination, group: str) -> Iterator[Damage]:
    name = f"{group}/{schema.STEP}"
    steps, attempts = run.values(name), run.values(f"{group}/{schema.ATTEMPT}")
    members = run.root.members(group)
    told = run.root.attributes.get("rows", {}).get(group, members[schema.STEP]["shape"][0])
    lengths = {member: node["shape"][0] for member, node in members.items() if schema.STEP in node["dimension_names"]}
    for member, length in lengths.items():
        if length != told:
            yield Damage(metadata.FILE, f"{group}/{member}", (), (), f"it has {length} rows, and the run tells {told}")
    if steps is None or attempts is None or len(steps) != len(attempts):
        return  # told already: a file of one of them is damaged, or they differ in length
    count = len(run.root.attributes["attempts"])
    if len(attempts) and not 0 <= attempts.min() <= attempts.max() < count:
        yield _of_file(
            f"{group}/{schema.ATTEMPT}", f"it names attempts {attempts.min()} to {attempts.max()} of {count}"
        )
    same = np.diff(attempts) == 0
    falls = np.flatnonzero(np.where(same, np.diff(steps) <= 0, np.diff(attempts) < 0))
    if len(falls):
        at = int(falls[0])
        yield _of_file(name, f"its steps do not rise: {steps[at]} comes before {steps[at + 1]} in one attempt")


def _labels(run: Examination, group: str) -> Iterator[Damage]:
    for dim, table in _TABLES.items():
        own, known = run.values(f"{group}/{dim}"), run.values(f"{table}/{dim}")
        if own is not None and known is not None and own.tolist() != known[: len(own)].tolist():
            yield _of_file(f"{group}/{dim}", f"its names are not those of the table {table}/{dim}")


def _weights(run: Examination) -> Iterator[Damage]:
    table = run.values(f"{schema.PARAMETERS}/{schema.PARAMETER}")
    known = None if table is None else set(table.tolist())
    prefix = f"{schema.WEIGHTS}/"
    for path, node in run.root.nodes.items():
        if path.startswith(prefix) and _is_group(node):
            about = node["attributes"][schema.ATTRIBUTES]
            unknown = [name for name in about["names"] if known is not None and name not in known]
            if unknown:
                yield Damage(metadata.FILE, path, tuple(unknown), (), f"the table lacks {examples(unknown)}")
            layers = run.values(f"{path}/{schema.LAYER}")
            if layers is not None and layers.tolist() != about["layers"]:
                yield _of_file(f"{path}/{schema.LAYER}", f"its layers are not {about['layers']}")
    slugs = run.values(f"{schema.PARAMETERS}/{schema.WEIGHTS}")
    lost = [] if slugs is None else [one for one in slugs.tolist() if one and f"{prefix}{one}" not in run.root.nodes]
    if lost:
        yield _of_file(f"{schema.PARAMETERS}/{schema.WEIGHTS}", f"it names {examples(lost)}, which the run has not")


def _of_file(array: str, reason: str) -> Damage:
    return Damage(str(Path(array) / metadata.chunk_key(0)), array, (), (), reason)
