"""What do the findings about distributions mean at length?"""

from wdyn.reports.explanations.explanation import Explanation

DISTRIBUTION = {
    "DIS001": Explanation(
        "Weights that began narrow have spread out, and the far ones more than the rest: the distribution is wider and "
        "its tails are longer than at first.",
        "The standard deviation is at least {widened:g} times the first one, and kurtosis rose by 0.3 or more, and by "
        "more than chance gives with so few values.",
        "Learning itself: most weights move a little, and a few that matter move much.",
        "It is an observation. Compare roles and layers in the figure, and runs with wdyn.join_runs.",
    ),
    "DIS002": Explanation(
        "A few weights have become far larger than the rest of their matrix. They carry much of its norm, and rounding "
        "the matrix to few bits will lose the others.",
        "Kurtosis is at least {heavy:g}, or a share of {far:g} lies beyond 4 rms (a normal distribution has 0.00006), "
        "and it has doubled since the first row.",
        "Rows of rare or never seen tokens in an embedding, channels that serve as biases, gradient spikes without "
        "clipping.",
        "Find the rows with wdyn.select(run, role=...), and look at gradient norms around the step at which it rose.",
    ),
    "DIS003": Explanation(
        "The values of a matrix that were spread out have gathered in a few narrow ranges, such as plus and minus one "
        "number.",
        "In effect (by the entropy of the counts) they fill {few:g} bins of 25 % width or fewer, and at first filled "
        "twice as many or more. Asked of {least_values:g} values or more, with a mean near zero.",
        "Quantization-aware training, a clamp that everything runs into, updates by sign alone.",
        "If none of it is meant, look at what writes to the weights after the step.",
    ),
    "DIS004": Explanation(
        "Weights that were not zero have become exactly zero. They pass nothing on, and may never come back.",
        "The share of exact zeros rose by at least {zeros:g} since the first row.",
        "Pruning and masks, proximal L1 steps, a clamp at zero, or values too small for float16.",
        "Nothing where it is meant. Else see in which step the share rose: wdyn.distribution(run).zeros.",
    ),
    "DIS005": Explanation(
        "There are weights that are infinite, or larger than float32 can hold. The model's output is lost, or will be "
        "with the next cast.",
        "One such value in the last row is enough.",
        "A learning rate far too high, a gradient that overflowed in float16 without loss scaling, a division by zero "
        "in a custom update.",
        "Go back to a snapshot from before, clip gradients, lower the learning rate, or scale the loss.",
    ),
    "DIS006": Explanation(
        "Weights have shrunk below 2^-126, where float32 keeps only part of its digits and some processors are slow: "
        "for the model they are zero.",
        "The share of such values rose by at least {underflow:g} since the first row.",
        "Weight decay on weights that never get a gradient: rows of tokens that do not occur, branches that are not "
        "used, dead units.",
        "Find out why no gradient arrives there, or leave them out of the decay.",
    ),
}
