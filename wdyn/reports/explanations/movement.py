"""What do the findings about what moved and what stayed mean at length?"""

from wdyn.reports.explanations.explanation import Explanation

MOVEMENT = {
    "FRZ001": Explanation(
        "A weight that was frozen has other values now. What you took for a fixed part of the model was trained, or "
        "overwritten, so comparisons that rely on it do not hold.",
        "One bit that differs from the values at which it froze is enough, by snapshots, statistics or updates. A "
        "warning only, where it was trainable at other recorded steps.",
        "An optimizer that holds it and applies decay, momentum, or a gradient from before the freeze; a trainable "
        "name of the same memory; load_state_dict, an averaged copy (EMA), a cast.",
        "Give the optimizer only parameters with requires_grad=True, and freeze before it is made.",
    ),
    "FRZ002": Explanation(
        "A weight that should be learned has exactly the values that it began with: training never reached it.",
        "It is trainable at some recorded step, and no bit differs between the first snapshot and any other. Values "
        "that are NaN or infinite are not judged.",
        "No optimizer holds it; the learning rate of its group was 0; no gradient reaches it (detach(), torch.no_grad, "
        "a branch that is not used); or updates are below the spacing of bfloat16 or float16.",
        "Check optimizer.param_groups and parameter.grad after one backward pass; freeze it if that is meant.",
    ),
    "FRZ003": Explanation(
        "A trainable weight changed, but only shrank: it is its own first value times a factor below 1, as weight "
        "decay alone would leave it.",
        "At the last snapshot at most {off_scale:.0%} of the change is something else than scaling, in a weight of "
        "at least {least_values} values.",
        "No gradient reaches it, or a vanishing one, while the optimizer decays it: an unused branch, an expert never "
        "chosen, embedding rows that never occur.",
        "Look at its gradient after one backward pass. Freeze it, or keep it out of the group that decays.",
    ),
    "FRZ004": Explanation(
        "During training NaN or infinite values came into the weights. From then on the model computes nothing that "
        "means something.",
        "One such value is enough, in a snapshot or by the statistics. The first step at which one was seen is named; "
        "the cause lies between it and the recorded step before.",
        "A learning rate that is too high, float16 without a loss scale, a division by zero or a logarithm of zero in "
        "the loss, a bad batch.",
        "Go back to the last whole snapshot (wdyn.load_into), clip the gradient norm, and find the operation with "
        "torch.autograd.set_detect_anomaly(True).",
    ),
    "FRZ005": Explanation(
        "What was frozen is what it was at first: the freeze worked.",
        "A weight was frozen at every recorded step, and all its snapshots are equal, bit for bit; without two "
        "snapshots, all its statistics. It is good news, given so that one can rely on it.",
        "requires_grad=False, and an optimizer that leaves such parameters alone.",
        "Nothing. Record more often if you want to exclude that it moved and came back in between.",
    ),
}
