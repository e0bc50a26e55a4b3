"""What do the findings about growth with depth mean at length?"""

from wdyn.reports.explanations.explanation import Explanation

DEPTH = {
    "DEP001": Explanation(
        "The layers of a role do not widen, or narrow, alike: growth of the spread of their weights depends on depth, "
        "or one layer stands out.",
        "The largest growth is at least {ratio:g} times the smallest, and either its rank correlation with depth is "
        "beyond {correlation:g}, or one layer grows {outlier:g} times as much as the median one. Limits rise to what "
        "chance gives with few layers or values.",
        "Gradients that differ with depth: residual scaling, the place of the norms, warm-up, learning rates by layer.",
        "Usual to some degree. Compare runs that differ in one of these, with wdyn.join_runs.",
    ),
    "DEP002": Explanation(
        "The weights of some layers shrank to a fraction of their first spread. Such a layer passes on little, and may "
        "be doing nothing.",
        "The standard deviation of a trainable layer ended below {collapse:g} times its first value.",
        "Weight decay without enough gradient against it: a branch that is hardly used, a gate that closed, a learning "
        "rate near 0, gradients that vanish on their way.",
        "Look at the gradient norms of these layers, at the decay of their parameter group, and at what follows them.",
    ),
    "DEP003": Explanation(
        "One end of the stack changes first: half of its growth is done well before that of the other end. What is "
        "learned early settles there.",
        "The mean step at which half of the growth was done, over the first and over the last third of the layers, "
        "differs by more than {lead:.0%} of the recorded steps.",
        "Order of learning in the model itself, layers that were unfrozen one after another, or learning rates by "
        "layer.",
        "It is an observation. Record more often, every=10 say, if the two steps lie close together.",
    ),
    "DEP004": Explanation(
        "Some weights began at zero, or at another constant. They have no first spread to be compared with, so growth "
        "as a factor has no meaning for them.",
        "The standard deviation at the first recorded step is 0 in a role other than norms, which always begin at 1.",
        "Biases that begin at zero, LoRA's second factor, zero-initialized output projections and gates: all of them "
        "usual and meant.",
        "Nothing. Read the absolute change instead: wdyn.depth_growth(run).change.",
    ),
}
