"""What do the findings about single updates mean at length?"""

from wdyn.reports.explanations.explanation import Explanation

UPDATE_SIZES = {
    "UPD001": Explanation(
        "In each step some matrices change by a large share of their norm. A rule of thumb holds about 1e-3 for right; "
        "far above it, training is noisy, forgets, or diverges.",
        "In the later half of the rows the median of update norm over weight norm is above {above:g}; a warning above "
        "{reckless:g}. Matrices alone are judged, while their learning rate is above 0.",
        "A learning rate too high for the width of the model; weights that began near zero; a schedule that does not "
        "decay; Adam's small second moments.",
        "Lower the learning rate or let it decay, if the loss has stopped falling.",
    ),
    "UPD002": Explanation(
        "Some matrices hardly move in a step: about 1e-3 of their norm is usual where a network learns.",
        "In the later half of the rows the median of update norm over weight norm is below {below:g}, and not 0.",
        "The end of a schedule, fine-tuning with a small learning rate, vanishing gradients, clipping at every step, "
        "a matrix with large first weights.",
        "Nothing if you meant it. Else raise the learning rate, or look at the gradients of these layers.",
    ),
    "UPD003": Explanation(
        "An update goes back over much of the one before: the weights swing from side to side of where they should "
        "settle. From 100 % taken back on, the swing grows.",
        "In the later half of the rows the mean cosine of successive updates is below {cosine:g}, by two standard "
        "errors; a warning where {overshoot:.0%} or more is taken back.",
        "Steps too long for the curvature. For plain SGD near a minimum the cosine is about minus half of learning "
        "rate times curvature, -1 being where it diverges.",
        "Lower the learning rate, take larger batches, or add momentum.",
    ),
    "UPD004": Explanation(
        "What moves these weights is mostly their decay: lr times weight decay times the weights. They shrink more "
        "than they learn.",
        "In the later half of the rows the median norm of the decay is above {decay:.0%} of that of the whole update, "
        "for optimizers known to decouple the decay, such as AdamW.",
        "Gradients near zero: rare tokens, a branch hardly used, a loss that is fitted; or a large weight decay.",
        "Lower the decay, or put these parameters into a group without it.",
    ),
    "UPD005": Explanation(
        "A weight that should be learned was not moved by steps whose learning rate was above 0: no bit of it changed.",
        "In the later half of the rows more than {still:.0%} of those at which it was trainable have an update of "
        "exactly 0. At least {least_rows} rows are needed.",
        "No gradient reaches it, such as in a branch that is not used; or updates are below the spacing of bfloat16 "
        "or float16, and round to nothing.",
        "Look at its gradient. Keep float32 master weights, or freeze it if that is meant.",
    ),
    "UPD006": Explanation(
        "A step added NaN or infinity to the weights. From then on the model computes nothing that means something.",
        "One such value in one recorded update is enough. The first step at which it was seen is named, with the "
        "weights that had it then.",
        "A learning rate that is too high, float16 without a loss scale, a division by zero, a bad batch.",
        "Start again from the last whole snapshot (wdyn.load_into), clip the gradient norm, and leave steps out whose "
        "gradient is not finite.",
    ),
    "UPD007": Explanation(
        "Under AdamW decay and gradients come to a balance, at which each step turns a matrix by an angle that follows "
        "from learning rate, decay and beta1. These turn by a very different one.",
        "The sum of lr times decay has brought them {settled:.0%} of the way, and the median rotation of the later "
        "rows differs by more than {off_balance:g} times.",
        "Gradients that agree from step to step, rare gradients, a schedule that has just changed, no normalization "
        "after the matrix.",
        "It is an observation. Compare roles: unequal rotation means unequal learning.",
    ),
}
