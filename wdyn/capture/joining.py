"""What do several processes together say of a step? Their numbers are joined, and their copies compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from wdyn import schema
from wdyn.capture.measuring import Layout
from wdyn.capture.numbers import Numbers, from_bytes, joined, number_rows, to_bytes
from wdyn.capture.sharing import Sharing
from wdyn.naming import examples
from wdyn.rows import Row, Share


@dataclass(frozen=True)
class Joining:
    """Makes the rows of one step.

    Attributes
    ----------
    step
        The step.
    layout
        What the columns of its rows show.
    states
        The row of states; None where the step has one already.
    sharing
        Which process records what.
    tell
        Tells the user of copies that differ.
    trained
        Names of which that is told, once each: buffers may differ by design, and they are only recorded.
    """

    step: int
    layout: Layout
    states: Row | None
    sharing: Sharing
    tell: Callable[[str], None]
    trained: set[str]

    def share(self, own: Numbers, *, ordinal: int) -> Share:
        """Give what this process measured, to be joined with what others did."""

        def rows(others: Sequence[bytes]) -> tuple[Row, ...]:
            return self.rows([own, *map(from_bytes, others)])

        return Share(self.step, ordinal, bool(own.quantities), lambda: to_bytes(own), rows, own.nbytes)

    def rows(self, several: Sequence[Numbers]) -> tuple[Row, ...]:
        """Give the rows of the step, from what each process measured, by rank."""
        numbers = joined(several) if len(several) > 1 else several[0]
        return (*number_rows(self.step, numbers, self.layout), *self._states(several))

    def _states(self, several: Sequence[Numbers]) -> Iterator[Row]:
        if self.states is None:
            return
        differ = differing([one.fingerprints for one in several], self.sharing)
        if several[0].fingerprints:
            self._tell_of([name for name, count in differ.items() if count and name in self.trained])
            shown = self.layout.whole.source
            counts = [differ.get(shown.get(column, ""), -1) for column in range(self.layout.whole.columns)]
            told = {schema.REPLICAS_DIFFER: np.array(counts, dtype=np.int64)}
            yield replace(self.states, values={**self.states.values, **told})
        else:
            yield self.states

    def _tell_of(self, names: Sequence[str]) -> None:
        if names:
            self.trained.difference_update(names)
            self.tell(
                f"Processes that should hold the same weights do not: at step {self.step}, {len(names)} of them "
                f"differ between copies, such as {examples(names)}. Which, since when: states/{schema.REPLICAS_DIFFER}"
            )


def differing(prints: Sequence[Mapping[str, int]], sharing: Sharing) -> dict[str, int]:
    """Count, by name of the tensor, the processes whose copy of a piece is not that of the one that records it."""
    found: dict[str, int] = {}
    for name, division in sharing.divisions.items():
        if all(name in prints[rank] for rank in division.pieces):
            copies = division.replicas().items()
            found[name] = sum(prints[one][name] != prints[first][name] for first, others in copies for one in others)
    return found
