"""How does the state of a model at one step become rows?

Names are resolved afresh at every capture, since training code replaces parameters; what is remembered between steps
are names, columns and copies, never the model's tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from wdyn import schema
from wdyn.capture.anatomy import addresses
from wdyn.capture.columns import Columns
from wdyn.capture.declared import Declared
from wdyn.capture.fingerprints import fingerprints
from wdyn.capture.fragments import fragments
from wdyn.capture.measuring import Layout, Shown
from wdyn.capture.numbers import Numbers
from wdyn.capture.optimizers import group_of_parameter
from wdyn.capture.owners import Owners, owners
from wdyn.capture.partition import Partition, partition
from wdyn.capture.quantities import Quantities
from wdyn.capture.sharing import ALONE, Sharing, divided
from wdyn.capture.spread import live_tensors
from wdyn.capture.staging import Staging, fits
from wdyn.naming import examples, part_label
from wdyn.rows import Before, Declaration, Row, Snapshot
from wdyn.schema import Address, Extra, Kind, Quantity


class Recorder:
    """Reads one model, and gives rows whose columns are the parameters, and the parts, of the run's tables.

    Parameters
    ----------
    model, optimizers
        What is trained; neither is changed.
    what
        Quantities, and extras, that are wanted.
    heads
        Whether each attention head is a part.
    wanted
        Which parameters to record.
    parts
        Splits of fused weights that the user declared.
    keepable
        Names of the dtypes that can be kept.
    before
        What the run held that is continued, if any.
    sharing
        Which of several processes records which piece.
    tell
        Tells the user of what recording takes, or cannot do.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[Optimizer],
        *,
        what: Collection[Quantity | Extra],
        heads: bool,
        wanted: Callable[[Address], bool],
        parts: Declared,
        keepable: frozenset[str],
        before: Before | None = None,
        sharing: Sharing = ALONE,
        tell: Callable[[str], None],
    ) -> None:
        self._model, self._optimizers, self._sharing = model, optimizers, sharing
        self._heads, self._wanted, self._declared, self._keepable = heads, wanted, parts, keepable
        self._columns = Columns(before, sharing)
        self._forms: dict[str, tuple[torch.Size, torch.dtype]] = {}
        self._watched: dict[str, Address] = {}
        self._partitions: dict[str, Partition] = {}
        self._fragments: Mapping[str, Partition] = {}
        self._tensors: dict[str, Tensor] = {}
        self._owners = Owners()
        self._staging = Staging()
        self._quantities = Quantities(optimizers, what, before=before, tell=tell)

    def look(self, *, for_snapshot: bool) -> Declaration | None:
        """See which tensors the model has now; return the tables, and arrays for a snapshot, where they changed."""
        self.see()
        homeless = [name for name in self._owners.names if self._needs_array(name)] if for_snapshot else []
        if not homeless and not self._columns.lack(self._watched, [own for own, _ in self._parts()]):
            return None
        return self._columns.declare(
            tuple(self._watched.values()),
            self._partitions,
            homeless=[self._watched[name] for name in homeless],
            group=self._group_of(list(self._watched)),
            owned=frozenset(self._owners.names),
        )

    def see(self) -> None:
        """See which tensors the model has now."""
        live = self._live()
        forms = {name: (tensor.shape, tensor.dtype) for name, tensor in live.items()}
        if other := forms != self._forms:
            self._describe(live)
        self._tensors = {name: tensor for name, tensor in live.items() if name in self._watched}
        shared = owners(self._tensors)
        if not other and shared != self._owners:  # what was tied no longer is
            self._describe(live)
        self._forms, self._owners = forms, shared

    def forget(self) -> None:
        """Let go of the model's tensors: training may replace them, and a reference would keep the old ones alive."""
        self._tensors = {}

    def prepare(self) -> None:
        """Copy what the next step will change, so that the change can be measured."""
        self._quantities.prepare(self._owned(self._live()))

    def see_gradients(self, optimizer: Optimizer | None) -> None:
        """Measure gradients as the optimizer (None: nobody) is about to use them."""
        live = self._owned(self._live())
        self._quantities.see_gradients(optimizer, live, partitions=self._fragments)

    def numbers(self, step: int, *, stepped: bool) -> Numbers:
        """Measure every quantity of what this process records.

        Updates and gradients are "not recorded" unless `stepped`, with `prepare` and `see_gradients` before it.
        """
        return self._quantities.numbers(step, self._owned(self._tensors), self._fragments, stepped=stepped)

    def layout(self) -> Layout:
        """Say what the columns of a row show at this moment."""
        return Layout(self._shown_parameters(), self._shown_parts())

    def fingerprints(self) -> dict[str, int]:
        """Give for each tensor a number that tells whether the piece in this process is that of another, bit by bit."""
        return fingerprints({name: self._tensors[name] for name in self._owners.names})

    def states_row(self, step: int) -> Row:
        """Tell of each parameter whose memory it shares, as the same tensor or not, if it trains, and its group."""
        names, columns = list(self._tensors), self._columns.of_parameter
        at = [columns[name] for name in names]
        states = {name: np.full(len(columns), -1, dtype=np.int64) for name in schema.STATE_NAMES}
        states[schema.SHARES_WITH][at] = [columns[self._owners.leaders[name]] for name in names]
        same = [self._tensors[name] is self._tensors[self._owners.leaders[name]] for name in names]
        states[schema.SAME_TENSOR][at] = same
        states[schema.TRAINABLE][at] = [self._tensors[name].requires_grad for name in names]
        states[schema.GROUP][at] = self._group_of(names)
        return Row(schema.STATES, step, dict(states))

    def snapshot(self, step: int) -> Snapshot:
        """Copy all weights out, of several processes those pieces that this one records."""
        owned = ((name, self._columns.array_of.get(name)) for name in self._owners.names)
        held = {name: array for name, array in owned if array is not None}
        arrays = {array.slug: array for name, array in held.items() if self._sharing.speaks_for(name)}
        values, release = self._staging.copy(arrays.values(), self._tensors)
        if not self._sharing.is_shared:
            return Snapshot(step, values, release)
        return divided(Snapshot(step, values, release), held, self._sharing)

    def snapshot_bytes(self) -> int:
        """Size of one snapshot, of all processes together."""
        sizes = ((self._watched[name], self._tensors[name]) for name in self._owners.names)
        return sum(one.numel * tensor.element_size() for one, tensor in sizes if one.dtype in self._keepable)

    @property
    def watched(self) -> tuple[Address, ...]:
        """What is recorded, as it was last seen."""
        return tuple(self._watched.values())

    @property
    def trained(self) -> set[str]:
        """Names of what is recorded and is no buffer."""
        return {name for name, one in self._watched.items() if one.kind != Kind.BUFFER}

    def oddities(self) -> Iterator[str]:
        """Tell of what a user will not have meant."""
        lost = [name for name, one in self._watched.items() if one.dtype not in self._keepable]
        if lost:
            yield f"No snapshots are kept of {examples(lost)}: their dtype cannot be stored. Statistics are recorded"
        if self._optimizers and not (self._group_of(list(self._tensors)) >= 0).any():
            yield "The optimizer holds none of the recorded parameters; is it that of another model?"

    def _describe(self, live: Mapping[str, Tensor]) -> None:
        """Tell anew what each parameter is, and how it is cut."""
        known = addresses(self._model, parts=self._declared, held=live)
        self._watched = {one.name: one for one in known if self._wanted(one)}
        cut = {name: partition(one, heads=self._heads) for name, one in self._watched.items()}
        self._partitions = {name: cells for name, cells in cut.items() if cells is not None}
        held = {name: held for name in self._partitions if (held := self._sharing.piece(name)) is not None}
        self._fragments = fragments(self._partitions, held) if self._sharing.is_shared else self._partitions

    def _owned(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Of these tensors those that hold values of their own, and that this process records a piece of."""
        speaks_for = self._sharing.speaks_for
        return {name: tensors[name] for name in self._owners.names if name in tensors and speaks_for(name)}

    def _live(self) -> dict[str, Tensor]:
        """Give what the model holds now.

        Raises
        ------
        InvalidArgument
            It was divided among processes, or put together, since recording began.
        """
        return live_tensors(self._model, self._sharing)

    def _needs_array(self, name: str) -> bool:
        tensor = self._tensors[name]
        if str(tensor.dtype).removeprefix("torch.") not in self._keepable:
            return False
        array = self._columns.array_of.get(name)
        return array is None or not fits(array, tensor)

    def _parts(self) -> Iterator[tuple[str, str]]:
        """The label of every part, and that of the part whose numbers it shows: another's for a second name."""
        for name, cut in self._partitions.items():
            for part in cut.parts:
                yield part_label(name, part.name), part_label(self._owners.source[name], part.name)

    def _shown_parameters(self) -> Shown:
        columns = self._columns.of_parameter
        return Shown({columns[name]: source for name, source in self._owners.source.items()}, len(columns))

    def _shown_parts(self) -> Shown:
        columns = self._columns.of_part
        return Shown({columns[own]: source for own, source in self._parts()}, len(columns))

    def _group_of(self, names: Sequence[str]) -> npt.NDArray[np.int64]:
        by_id = group_of_parameter(self._optimizers)
        return np.array([by_id.get(id(self._tensors.get(name)), schema.NO_GROUP) for name in names], dtype=np.int64)
