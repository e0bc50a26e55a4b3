"""What do the findings about several runs mean at length?"""

from wdyn.reports.explanations.explanation import Explanation

COMPARE_RUNS = {
    "CMP001": Explanation(
        "The recorded settings of the runs are not the same: what differs between them may come from any of these.",
        "One setting of the model, the optimizer or its groups, one version, or the course of the learning rate over "
        "the steps that all runs have, differs as text.",
        "What the comparison is about; also a default that changed with a version, or a flag that was forgotten.",
        "Look in the list for what you did not mean. The data, the seed and the size of a batch are not recorded.",
    ),
    "CMP002": Explanation(
        "By its metric this run went wrong: it says little about its settings beyond that, and spoils means over runs.",
        "The metric became NaN, infinite, or was no longer logged while recording went on; or it ended above its own "
        "first value and more than {factor:g} times the median of the others.",
        "Too high a learning rate, a bad batch, float16 without a loss scale, or an error in the code that logs.",
        "Look at the run by itself (wdyn report); clip gradients or lower the rate, and leave it out of means.",
    ),
    "CMP003": Explanation(
        "Two runs have the same weights at every step that both recorded, as far as statistics tell: one run, twice.",
        "Mean, std, norms, minimum and maximum of every parameter are equal to the last bit at two common steps or "
        "more, between which a weight moved.",
        "The same seed, the same folder given twice, or a setting that was changed but has no effect.",
        "Use another seed where repeats were meant. Where the same was meant, it is good news.",
    ),
}
