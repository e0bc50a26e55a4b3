"""Your training run as one labelled array: what happens to the weights of a neural network while it trains."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wdyn._version import __version__ as __version__
    from wdyn.analysis.adapters import adapters as adapters
    from wdyn.analysis.analyzer import analyzer as analyzer
    from wdyn.analysis.binned import quantile as quantile
    from wdyn.analysis.binned import rebin as rebin
    from wdyn.analysis.binned import tail_weight as tail_weight
    from wdyn.analysis.binned_distances import kolmogorov_smirnov as kolmogorov_smirnov
    from wdyn.analysis.binned_distances import wasserstein as wasserstein
    from wdyn.analysis.catalogue import analyzers as analyzers
    from wdyn.analysis.compare_runs import compare_runs as compare_runs
    from wdyn.analysis.depth import depth_growth as depth_growth
    from wdyn.analysis.distribution import distribution as distribution
    from wdyn.analysis.initialization import init_audit as init_audit
    from wdyn.analysis.learning_rate import learning_rate as learning_rate
    from wdyn.analysis.movement import movement as movement
    from wdyn.analysis.optimizer_state import optimizer_state as optimizer_state
    from wdyn.analysis.replicas import replicas as replicas
    from wdyn.analysis.tying import tied_weights as tied_weights
    from wdyn.analysis.update_sizes import update_sizes as update_sizes
    from wdyn.capture.budgets import budget as budget
    from wdyn.capture.clipping import watch_clipping as watch_clipping
    from wdyn.capture.schedule import at as at
    from wdyn.capture.schedule import every as every
    from wdyn.capture.schedule import log_spaced as log_spaced
    from wdyn.capture.spikes import spike as spike
    from wdyn.checkpoints.describing import describe as describe
    from wdyn.checkpoints.exporting import export as export
    from wdyn.checkpoints.importing import import_checkpoints as import_checkpoints
    from wdyn.checkpoints.restoring import load_into as load_into
    from wdyn.checkpoints.restoring import state_dict as state_dict
    from wdyn.comparing.differing import diff as diff
    from wdyn.comparing.verifying import verify as verify
    from wdyn.errors import RunExists as RunExists
    from wdyn.errors import WdynError as WdynError
    from wdyn.errors import WdynWarning as WdynWarning
    from wdyn.findings import Finding as Finding
    from wdyn.findings import Severity as Severity
    from wdyn.handle import Watch as Watch
    from wdyn.plots.dispatch import plot as plot
    from wdyn.reading.joining import join_runs as join_runs
    from wdyn.reading.relations import relations as relations
    from wdyn.reading.selection import select as select
    from wdyn.reading.tables import parameters as parameters
    from wdyn.reading.tables import statistics as statistics
    from wdyn.reports.report import Report as Report
    from wdyn.reports.report import analyze as analyze
    from wdyn.store.pruning import prune as prune
    from wdyn.store.reader import open_run as open_run
    from wdyn.store.repairing import repair as repair
    from wdyn.watching import watch as watch

# Each public name and the module that holds it, which is imported when the name is first used: `import wdyn` alone
# costs nothing, and `wdyn --help` needs no torch.
_HOMES = {
    "_version": ("__version__",),
    "analysis.adapters": ("adapters",),
    "analysis.analyzer": ("analyzer",),
    "analysis.binned": ("quantile", "rebin", "tail_weight"),
    "analysis.binned_distances": ("kolmogorov_smirnov", "wasserstein"),
    "analysis.catalogue": ("analyzers",),
    "analysis.compare_runs": ("compare_runs",),
    "analysis.depth": ("depth_growth",),
    "analysis.distribution": ("distribution",),
    "analysis.initialization": ("init_audit",),
    "analysis.learning_rate": ("learning_rate",),
    "analysis.movement": ("movement",),
    "analysis.optimizer_state": ("optimizer_state",),
    "analysis.replicas": ("replicas",),
    "analysis.tying": ("tied_weights",),
    "analysis.update_sizes": ("update_sizes",),
    "capture.clipping": ("watch_clipping",),
    "capture.budgets": ("budget",),
    "capture.schedule": ("at", "every", "log_spaced"),
    "capture.spikes": ("spike",),
    "checkpoints.describing": ("describe",),
    "checkpoints.exporting": ("export",),
    "checkpoints.importing": ("import_checkpoints",),
    "checkpoints.restoring": ("load_into", "state_dict"),
    "comparing.differing": ("diff",),
    "comparing.verifying": ("verify",),
    "errors": ("RunExists", "WdynError", "WdynWarning"),
    "findings": ("Finding", "Severity"),
    "plots.dispatch": ("plot",),
    "reading.joining": ("join_runs",),
    "reading.relations": ("relations",),
    "reading.selection": ("select",),
    "reading.tables": ("parameters", "statistics"),
    "reports.report": ("Report", "analyze"),
    "store.pruning": ("prune",),
    "store.reader": ("open_run",),
    "store.repairing": ("repair",),
    "handle": ("Watch",),
    "watching": ("watch",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'wdyn' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"wdyn.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
