"""What does every finding mean at length? One file for each analyzer."""

from wdyn.reports.explanations.adapters import ADAPTERS
from wdyn.reports.explanations.compare_runs import COMPARE_RUNS
from wdyn.reports.explanations.depth import DEPTH
from wdyn.reports.explanations.distribution import DISTRIBUTION
from wdyn.reports.explanations.initialization import INITIALIZATION
from wdyn.reports.explanations.learning_rate import LEARNING_RATE
from wdyn.reports.explanations.movement import MOVEMENT
from wdyn.reports.explanations.optimizer_state import OPTIMIZER_STATE
from wdyn.reports.explanations.replicas import REPLICAS
from wdyn.reports.explanations.round_trip import ROUND_TRIP
from wdyn.reports.explanations.tying import TYING
from wdyn.reports.explanations.update_sizes import UPDATE_SIZES

EXPLANATIONS = (
    INITIALIZATION
    | TYING
    | DEPTH
    | DISTRIBUTION
    | MOVEMENT
    | OPTIMIZER_STATE
    | LEARNING_RATE
    | UPDATE_SIZES
    | ADAPTERS
    | REPLICAS
    | COMPARE_RUNS
    | ROUND_TRIP
)
"""By code, of the analyzers that wdyn comes with."""
