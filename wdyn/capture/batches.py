"""What does one step give as a whole: its rows, what was logged until then, and its snapshot, each of them once?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch.optim import Optimizer

from wdyn.capture.joining import Joining
from wdyn.capture.numbers import Numbers
from wdyn.capture.recorder import Recorder
from wdyn.capture.scalars import ScalarLog
from wdyn.capture.sharing import ALONE, Sharing
from wdyn.naming import examples
from wdyn.rows import Batch, Declaration

_NEVER = -1
_AT_ONCE_BYTES = 64 * 2**20
"""A first snapshot up to this size is published with the first row. To flush a larger one takes so long that the block
would seem to hang, so it follows while training begins, as later ones do."""


class Batches:
    """Reads a model at the steps that are due.

    Parameters
    ----------
    recorder, scalars
        What reads the model, and what was logged.
    tell
        Tells the user of parameters that come later, and of copies that differ.
    sharing, check_replicas
        Which of several processes records what, and whether their copies are compared.

    Attributes
    ----------
    rows_at
        The last step that gave rows; -1 for none.
    """

    def __init__(
        self,
        recorder: Recorder,
        scalars: ScalarLog,
        *,
        tell: Callable[[str], None],
        sharing: Sharing = ALONE,
        check_replicas: bool = False,
    ) -> None:
        self._recorder, self._scalars, self._tell = recorder, scalars, tell
        self._sharing, self._check_replicas = sharing, check_replicas
        self._trained: set[str] | None = None
        self._given = _NEVER, 0  # the step of the last share, and which one of that step it was
        self.rows_at = self._states_at = self._prepared_for = _NEVER

    def prepare(self, step: int) -> None:
        """Copy what `step`, the coming one, will change, once, however many optimizers make it."""
        if self._prepared_for != step:
            self._recorder.prepare()
            self._prepared_for = step

    def see_gradients(self, optimizer: Optimizer | None) -> None:
        """Measure the gradients that `optimizer` (None: nobody) uses for the coming step."""
        self._recorder.see_gradients(optimizer)

    def at(self, step: int, *, rows: bool, snapshot: bool) -> Batch:
        """Read the model at `step`, the present one."""
        declaration = self._look(step, for_snapshot=snapshot)
        numbers = self._numbers(step) if rows else Numbers()
        self.rows_at = step if rows else self.rows_at
        states = self._recorder.states_row(step) if self._states_at != step else None
        self._states_at = step
        kept = self._recorder.snapshot(step) if snapshot else None
        layout = self._recorder.layout()
        self._recorder.forget()
        self._trained = self._recorder.trained if self._trained is None else self._trained
        joining = Joining(step, layout, states, self._sharing, tell=self._tell, trained=self._trained)
        shared = joining.share(numbers, ordinal=self._ordinal(step)) if self._sharing.is_shared else None
        given = joining.rows([numbers]) if shared is None else ()
        # Taken last: an interrupt in what takes long must not lose what was logged.
        return Batch(step, given, kept, declaration, self._scalars.take(before=step), shared)

    def _ordinal(self, step: int) -> int:
        """Count what is given of one step."""
        at, count = self._given
        self._given = step, count + 1 if at == step else 0
        return self._given[1]

    def _numbers(self, step: int) -> Numbers:
        numbers = self._recorder.numbers(step, stepped=self._prepared_for == step)
        return replace(numbers, fingerprints=self._recorder.fingerprints()) if self._check_replicas else numbers

    def _look(self, step: int, *, for_snapshot: bool) -> Declaration | None:
        """See what the model holds now, and tell of what it did not hold before."""
        declaration = self._recorder.look(for_snapshot=for_snapshot)
        if declaration is not None and declaration.added:
            self._tell(
                f"The model has parameters that it had not before step {step}: {examples(declaration.added)}. "
                f"They were appended to the table, and their rows begin here"
            )
        return declaration


def parted(batch: Batch, *, queue_bytes: int) -> tuple[Batch, Batch | None]:
    """Part the first batch into what is published at once, and a large snapshot that leaves the queue room for rows."""
    snapshot = batch.snapshot
    if batch.share is not None or (snapshot and snapshot.slugs):  # what processes give of a step is one whole
        return batch, None
    if snapshot is None or not _AT_ONCE_BYTES < snapshot.nbytes <= queue_bytes // 2:
        return batch, None
    return replace(batch, snapshot=None), Batch(batch.step, snapshot=snapshot)
