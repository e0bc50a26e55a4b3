"""What do the findings about the optimizer's state mean at length?"""

from wdyn.reports.explanations.explanation import Explanation

OPTIMIZER_STATE = {
    "OPT001": Explanation(
        "Adam divides by the root of an average of squared gradients. In its first steps that average holds few of "
        "them, so single batches decide how far weights move, and the learning rate is already at its peak.",
        "1 / (1 - beta2^t) is above {correction:g} at the first step that uses the highest learning rate.",
        "No warm-up, or one that is short beside 1 / (1 - beta2): 1000 steps for the default beta2 = 0.999.",
        "Often harmless in small models. Where the loss is rough at first, warm up for 2 / (1 - beta2) steps, or lower "
        "beta2 to 0.95, as large language models do.",
    ),
    "OPT002": Explanation(
        "Each step uses the sum of all gradients so far instead of its own: weights are driven on by gradients of long "
        "ago, swing around the optimum and may never settle.",
        "From the first row on, the gradient norm rises in a line (R² at least {straightness:g}, {least_rows:g} rows "
        "or more) to {growth:g} times its first value, at {pace:g} to 2 times the pace of equal gradients that add up.",
        "No optimizer.zero_grad() in the loop, or one that is called on another optimizer.",
        "Call zero_grad() once for every step. Micro-batches are no cause: their sum is reset at each step.",
    ),
    "OPT003": Explanation(
        "A parameter asks for gradients, and no optimizer will ever use them: it keeps its first values, at the cost "
        "of a backward pass.",
        "requires_grad is true, and no parameter group held it at any recorded step, though an optimizer was watched.",
        "A module made after the optimizer, a list of parameters that misses some, a plain Python list of modules, or "
        "a second optimizer that was not given to wdyn.watch.",
        "Give it to the optimizer, pass all optimizers to wdyn.watch, or freeze the parameter.",
    ),
    "OPT004": Explanation(
        "Weight decay pulls gains of norms and biases towards zero. A gain belongs near 1, and a few biases cost no "
        "generalisation, so decay gains little there.",
        "A group with norms or biases has a learning rate times decay that adds up to {pull:g} or more: without "
        "gradients they would shrink by about that share.",
        "All parameters given to the optimizer as one group: AdamW decays by 0.01 unless told otherwise.",
        "Split the groups by dimension: weight.ndim >= 2 decays, the rest does not. Some recipes decay everything on "
        "purpose.",
    ),
    "OPT005": Explanation(
        "The optimizer would move this parameter, but in the whole run it never got a gradient other than zero: its "
        "moments were never made, or hold zeros alone.",
        "At every recorded step all elements of its moments are zero or missing, while others of its group have some.",
        "A branch that is not used, a detach(), a dead activation in front of it, a loss that ignores it, or float16 "
        "gradients that underflow.",
        "Look at its gradient after one backward pass; freeze it if it is not meant to learn, as AdamW may decay it.",
    ),
    "OPT006": Explanation(
        "A moment that holds NaN or infinity never recovers: every later average contains it, and the weight stands "
        "still or turns NaN itself.",
        "One such value, in any moment of any parameter, at one recorded step is enough.",
        "A gradient that was not finite and was used all the same, or one so large that its square overflows: beyond "
        "1e20 in float32, beyond a few hundred in float16.",
        "Skip steps with such gradients (a GradScaler does, or check what clip_grad_norm_ returns), keep moments in "
        "float32, and go back to a state from before.",
    ),
    "OPT007": Explanation(
        "The measured change of the weights is not what the optimizer's own formula gives for its state and settings, "
        "so something lies between the two.",
        "The predicted norm differs from the measured one by more than {misfit:.0%} in the median row. Only with "
        'what="predicted_update", for SGD, Adam, AdamW, RMSprop and Adagrad.',
        "Rounding, where weights are in bfloat16 and most updates are below their spacing; a clamp or projection after "
        "the step; an averaged copy written back.",
        "Keep float32 master weights, or round stochastically; look for code that writes to weights.",
    ),
    "OPT008": Explanation(
        "Adam makes steps of like size for large and small gradients, by dividing by their running size. Here eps is "
        "the larger of the two, so steps shrink with the gradients after all.",
        "At the last row, the root of the mean second moment is below eps.",
        "Gradients that are tiny: a loss divided by a large number, saturated units, a weight that hardly matters; or "
        "a large eps on purpose.",
        "Scale the loss up or eps down, 1e-15 say, if the weight should train at full speed.",
    ),
    "OPT009": Explanation(
        "Some elements of a weight have a second moment of exactly zero: in the whole run no gradient reached them, so "
        "they hold their first values, or what decay left of these.",
        "At the last row the share of such elements is above {idle:.0%}, and below all of them.",
        "Rows of an embedding whose tokens or positions never occurred; units that a ReLU keeps off; experts that were "
        "never chosen; squares of gradients that underflow.",
        "Usual in embeddings. Elsewhere look at what feeds them, and record longer before you judge.",
    ),
}
