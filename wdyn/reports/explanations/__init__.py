"""What does every finding mean at length? One file for each analyzer."""

from wdyn.reports.explanations.depth import DEPTH
from wdyn.reports.explanations.initialization import INITIALIZATION
from wdyn.reports.explanations.learning_rate import LEARNING_RATE
from wdyn.reports.explanations.movement import MOVEMENT
from wdyn.reports.explanations.optimizer_state import OPTIMIZER_STATE
from wdyn.reports.explanations.tying import TYING

EXPLANATIONS = INITIALIZATION | TYING | DEPTH | MOVEMENT | OPTIMIZER_STATE | LEARNING_RATE
"""By code, of the analyzers that wdyn comes with."""
