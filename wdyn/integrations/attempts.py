"""How does a callback hold the recording of each training that its trainer makes, one after another?"""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from wdyn.capture.clipping import watch_clipping
from wdyn.capture.processes import rank_and_count
from wdyn.handle import Watch
from wdyn.watching import watch


class Attempts:
    """Recordings of trainings into one run: `begin` opens one, which sees clipping too, and `end` closes it.

    Parameters
    ----------
    to
        Where the run goes; None for ``run.zarr`` in the folder that `begin` names.
    options
        Those of `wdyn.watch`.

    Attributes
    ----------
    watch
        The `wdyn.Watch` of the last training; None before the first.

    Raises
    ------
    TypeError
        `wdyn.watch` has no such option.
    """

    def __init__(self, to: str | os.PathLike[str] | None, options: Mapping[str, Any]) -> None:
        inspect.signature(watch).bind(None, to=to, **options)  # a misspelt option should not wait for the model to load
        self.watch: Watch | None = None
        self._to, self._options = to, options
        self._open: ExitStack | None = None

    @property
    def running(self) -> Watch | None:
        """The watch of a training that is under way."""
        return None if self._open is None else self.watch

    def begin(
        self,
        model: nn.Module,
        optimizers: Optimizer | list[Optimizer] | None,
        *,
        folder: str,
        count: Mapping[str, int],
        continues: bool,
        first: bool,
    ) -> None:
        """Open the recording of a training that begins at a `count`, and `continues` one that was made before.

        Of several processes each opens one, and `wdyn.watch` says which record what; where it cannot see the others,
        as on TPUs, only the `first` does.
        """
        if not first and rank_and_count()[1] == 1:
            return
        options = dict(self._options)
        if continues:
            options["resume"] = options.get("resume") or True
        self.watch = watch(model, optimizers, to=Path(folder) / "run.zarr" if self._to is None else self._to, **options)
        self.watch.load_state_dict(count)
        with ExitStack() as opened:
            opened.enter_context(self.watch)
            opened.enter_context(watch_clipping(self.watch))
            self._open = opened.pop_all()

    def end(self) -> None:
        """Close the recording. Safe to call twice."""
        if self._open is not None:
            self._open.close()
            self._open = None
