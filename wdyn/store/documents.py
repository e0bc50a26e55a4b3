"""How do the nodes of a run become the bytes of each `zarr.json`, with every node encoded once?

What one node is stands in its own file, in that of each group above it, and in that of the root; and of the arrays of a
group most are alike, so that hundreds of descriptions are a few dozen texts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

from wdyn.store import metadata, sealing
from wdyn.store.metadata import Node


class Documents:
    """Metadata of a run at one moment.

    Parameters
    ----------
    nodes
        That of every group and array below the root, by path.
    """

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        # zarr-python loses the members of a group that do not stand side by side.
        self._nodes = dict(sorted(nodes.items(), key=lambda node: node[0].rpartition("/")[0]))
        self._encoded: dict[int, bytes] = {}  # by identity: all nodes are held above

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def root(self, node: Node) -> bytes:
        """Give the root's document, which carries all others inline: one file tells the length of every array."""
        own = metadata.encode({**node, "attributes": sealing.with_room(node["attributes"])})
        return sealing.seal(_with_members(own, self._members(self._nodes, cut=0)))

    def of(self, path: str) -> bytes:
        """Give that of a node; a group carries what stands in it, however deep."""
        own, start = self._own(path), f"{path}/"
        if self._nodes[path]["node_type"] == "array":
            return own
        return _with_members(
            own, self._members((name for name in self._nodes if name.startswith(start)), cut=len(start))
        )

    def _members(self, paths: Iterable[str], *, cut: int) -> Iterator[bytes]:
        return (b"%b:%b" % (json.dumps(path[cut:]).encode(), self._own(path)) for path in paths)

    def _own(self, path: str) -> bytes:
        node = self._nodes[path]
        found = self._encoded.get(id(node))
        if found is None:
            found = self._encoded[id(node)] = metadata.encode(node)
        return found


def _with_members(group: bytes, members: Iterable[bytes]) -> bytes:
    """Put a field behind those of a group: what stands in it."""
    inline = b'{"kind":"inline","must_understand":false,"metadata":{%b}}' % b",".join(members)
    return b'%b,"consolidated_metadata":%b}' % (group[:-1], inline)
