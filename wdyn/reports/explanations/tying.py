"""What do the findings about weights that share their storage mean at length?"""

from wdyn.reports.explanations.explanation import Explanation

TYING = {
    "TIE001": Explanation(
        "Two names were one weight and are two now. From that step on they learn apart, the model has more "
        "parameters than you think, and a checkpoint may keep only one of them.",
        "The two shared memory at one recorded step, or when recording began, and not at a later one.",
        "load_state_dict(assign=True), to_empty(), a cast or move of one module, a new Parameter, or a wrapper that "
        "flattens parameters. Where the run was resumed: the model that was built to go on was never tied.",
        "Tie them again after whatever replaced one (head.weight = embedding.weight), and make the optimizer anew.",
    ),
    "TIE002": Explanation(
        "Two names began as separate weights and became one while training. What the weight that was given up had "
        "learned is lost.",
        "The two lay in separate memory at one recorded step, and share memory at a later one.",
        "tie_weights() called late, after the optimizer was made or by a function that saves or loads the model.",
        "If the tie is meant, make it before the optimizer, which may still hold, and decay, the weight that no name "
        "refers to.",
    ),
    "TIE003": Explanation(
        "Two names hold the same values in separate memory. That looks like a tie and is none: with the first update "
        "that differs they part.",
        "All values are equal at one recorded step or more, by snapshots or by all statistics, and the memory differs.",
        "A copy (deepcopy, .clone(), load_state_dict) where an assignment was meant, or layers that are copies of one, "
        "as in nn.TransformerEncoder.",
        "If a tie was meant, assign the same Parameter to both names. Initialize copied layers anew if they should "
        "differ from the start.",
    ),
    "TIE004": Explanation(
        "Two names were one weight at every recorded step: the tie that was made when the model was built held until "
        "the end.",
        "The two share memory at the last recorded step, and never did otherwise. It is good news, given so that one "
        "can rely on it.",
        "The usual one is an input embedding tied to the output head, which saves a small language model a part of its "
        "parameters.",
        "Nothing. If you did not mean a tie, assign a new Parameter to one of the two.",
    ),
}
