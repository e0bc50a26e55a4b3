"""What do the findings about the learning rate and the gradient norm mean at length?"""

from wdyn.reports.explanations.explanation import Explanation

LEARNING_RATE = {
    "SCH001": Explanation(
        "What the scheduler did, read from the recorded rates alone: its kind, its warmup and what it decays to.",
        "One of the known kinds goes through every recorded row; the largest distance is stated, as a share of the "
        "largest rate. A rate that never changed is not worth a finding.",
        "A scheduler from torch or transformers, or a formula of your own that amounts to the same.",
        "Compare with what you meant: the length of the warmup, the floor, and C, where 1/2 is plain decay.",
    ),
    "SCH002": Explanation(
        "After a resume the learning rate went through its beginning a second time, so a trained model got the warmup "
        "and the peak again.",
        "The rates of the first rows after a resume equal those of the first rows of the run, and differ from the rate "
        "just before.",
        "The checkpoint held model and optimizer but not the scheduler, or the scheduler was made anew with "
        "last_epoch=-1.",
        "Save scheduler.state_dict() too, and load it after the optimizer's. Judge what followed with care.",
    ),
    "SCH003": Explanation(
        "From one step to the next the learning rate rose by a large part of its maximum. Such a step can throw a "
        "model out of the place it had found.",
        "It rose by at least {jump:.0%} of the largest rate within one step, and no known schedule, restarts included, "
        "goes through the rates.",
        "A scheduler stepped in two places, two schedulers on one optimizer, a rate set by hand, or a resume.",
        "Look at that step in the figure. If the jump is meant, nothing is wrong; a short warmup softens it.",
    ),
    "SCH004": Explanation(
        "Training ended while the learning rate was still high: the schedule was made for more steps. The end of a "
        "decay is where the loss falls fastest, and it never came.",
        "The fitted line or cosine reaches its floor after the last step, and more than {left:.0%} of the fall lay "
        "ahead. For a line without a visible floor, 0 is assumed.",
        "Counting batches rather than optimizer steps (accumulation, several processes), early stopping, a crash.",
        "Compute the steps of the scheduler from those that are really made.",
    ),
    "SCH005": Explanation(
        "The cosine reached its floor before training ended, and went up again: the last steps undo part of what the "
        "decay brought.",
        "More than half a cycle and less than a whole one was trained. It is a warning where the rate came back by "
        "more than {left:.0%} of the fall.",
        "T_max, or num_training_steps, smaller than the number of steps; CosineAnnealingLR does not stop there.",
        "Give the scheduler all the steps, or hold the rate at its floor after the horizon. A whole number of cycles "
        "is taken as meant.",
    ),
    "SCH006": Explanation(
        "For a long stretch the learning rate was 0, so the optimizer made steps that changed nothing.",
        "At least {zero_share:.0%} of the recorded steps, one after the other, have a rate below a millionth of the "
        "largest. It is a warning at the end of training, else for information.",
        "A schedule shorter than the training; a group frozen by its learning rate; a phase when other groups train.",
        "Give the scheduler all the steps, or stop when it ends. Freeze with requires_grad_(False), which also saves "
        "the backward pass.",
    ),
    "SCH007": Explanation(
        "A step with learning rate 0 should leave its weights as they are. These changed.",
        "The rate of a group was exactly 0 at a recorded step, and the measured update of its parameters was not.",
        "A second optimizer that holds the same parameters, an averaged copy written back (EMA), a constraint applied "
        "after the step, or an optimizer whose decay does not depend on the rate.",
        "Find who writes to them: wdyn.relations(run) tells by parameter how the update lies to the weight.",
    ),
    "SCH008": Explanation(
        "Gradients were scaled down at most steps, so clipping acts as a normalisation: the length of the gradient is "
        "the limit, whatever the loss says.",
        "More than {clipped:.0%} of the logged steps have a coefficient below 1.",
        "A limit below the usual norm of this model and batch. Norms grow with the number of parameters, and are "
        "largest in the first steps.",
        "Fine where it is meant. Otherwise choose the limit from the recorded grad_norm, above its common values.",
    ),
    "SCH009": Explanation(
        "Of the squared gradient norm, most belongs to one layer, or to one parameter outside the layers. What is "
        "clipped or logged as the gradient norm is mostly its own.",
        "Its mean share over the recorded rows is beyond {owned:.0%}, of at least four owners.",
        "An unembedding or embedding with a large scale, a first layer with large inputs, an initialization that "
        "differs, a norm missing.",
        "Look at its scale. With SGD it also takes the longest steps; clip by group where it drowns the others.",
    ),
    "SCH010": Explanation(
        "The gradient held NaN or infinity. Unless the step was skipped, the weights do so from then on.",
        "The logged norm is infinite, or the statistics of the gradients count values that are not finite.",
        "Float16 with a loss scale that is too high, which its scaler mends by itself; a division by zero, a logarithm "
        "of zero, an exploding loss.",
        "With a scaler, nothing, if it is rare. Otherwise stop there: error_if_nonfinite=True, and "
        "torch.autograd.set_detect_anomaly(True).",
    ),
    "SCH011": Explanation(
        "You stated a bound for weights or gradients, and a recorded value lies outside.",
        "Only on request, since no bound holds for all models: weight_limit is M in |w| < M, and gradient_limit K in "
        "|g| < K; both are {weight_limit} unless you say otherwise. Judged by the largest absolute value of each row.",
        "A learning rate that is too high, no weight decay, a spike in the gradient.",
        "Look at the step that is named, and at the loss there.",
    ),
}
