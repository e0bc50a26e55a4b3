"""What does a finding mean at length: when is it given, what causes it, and what can one do?

Words in braces are limits of the check that gives the code: they are filled in with its defaults.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass

from wdyn.analysis.analyzer import Check


@dataclass(frozen=True)
class Explanation:
    """What there is to know about a code.

    Attributes
    ----------
    meaning
        What it says of the run.
    given
        When the check gives it, with the limits.
    causes
        What usually lies behind it.
    remedy
        What to do about it.
    """

    meaning: str
    given: str
    causes: str
    remedy: str

    def lines(self, check: Check) -> dict[str, str]:
        """Write it as headed lines, with the limits that `check` has by default."""
        parameters = inspect.signature(check).parameters.values()
        limits = {one.name: one.default for one in parameters if one.kind is one.KEYWORD_ONLY}
        return {
            "What it means": self.meaning.format(**limits),
            "When": self.given.format(**limits),
            "Usual causes": self.causes.format(**limits),
            "What to do": self.remedy.format(**limits),
        }


EXPLANATIONS = {
    "INI001": Explanation(
        "A weight does not have the first values that you said it should have: their spread, mean, reach or share of "
        "zeros is not what the rule gives.",
        "Only when you name rules, wdyn.init_audit(run, expected={{'*.weight': 0.02}}), and the statistics at step 0 "
        "lie further off than the sampling error of the rule explains.",
        "Another initializer ran later: a tie, a wrapper, from_pretrained; or a loop over modules that skipped a type.",
        "Print the weight right after each stage of building the model, and initialize last.",
    ),
    "INI002": Explanation(
        "The output head is so wide that the first predictions are far from uniform: the loss starts above ln(classes) "
        "and the first steps only shrink the head.",
        "std × sqrt(fan_in) of an output head at step 0 is above {logit_scale:g}: for inputs of unit variance that is "
        "the spread of the logits.",
        "An nn.Embedding with its default N(0, 1) that the head is tied to, or a head that no initializer reached.",
        "Give the head, or the embedding it is tied to, a std near 0.02 or 1/sqrt(width), unless the model scales its "
        "logits.",
    ),
    "INI003": Explanation(
        "An embedding and the output head are one weight, and what stands in it at step 0 are the first values of the "
        "head. The embedding never had its own.",
        "The tied weight follows the rule of the linear layers, while no embedding with values of its own does.",
        "The tie was made by assigning the head's weight to the embedding, so that the head's initialization won. "
        "In most models that is intended.",
        "If the embedding should keep its own values, tie first and initialize afterwards, or assign the other way "
        "round.",
    ),
    "INI004": Explanation(
        "An embedding still has the values that nn.Embedding draws by default, N(0, 1): some fifty times wider than "
        "language models use.",
        "The values at step 0 fit N(0, 1) within sampling error. It is not given for an embedding whose tied head is "
        "reported as INI002.",
        "The function that initializes the model handles Linear and forgets Embedding.",
        "Fine where a norm follows at once. Otherwise draw it with a std near 0.02, so that the embedding does not "
        "drown what the first blocks add to the residual stream.",
    ),
    "INI005": Explanation(
        "Some of the matrices whose output is added to the residual stream are scaled down by 1/sqrt(2 layers), and "
        "others of the same kind are not.",
        "At least one residual projection fits a depth-scaled rule at step 0, and at least one other does not.",
        "The scaling goes by names (c_proj, say) that not all blocks use, counts its calls, or a later initializer "
        "overwrote a part.",
        "Scale by role, every attention output and every second matrix of an MLP, after all other initialization.",
    ),
    "INI006": Explanation(
        "Before the first update there are NaN or infinite values in a weight. Every output that passes through it is "
        "lost, and training cannot mend it.",
        "One such value at step 0 is enough, in any parameter.",
        "Memory that was allocated and never filled (torch.empty, to_empty(), a meta device), a damaged checkpoint, or "
        "a cast to float16 that overflowed.",
        "Initialize every parameter that was materialized, check the checkpoint with torch.isfinite, and begin again.",
    ),
    "INI007": Explanation(
        "A few matrices have torch's own default values, uniform within 1/sqrt(fan_in), although the model gives most "
        "others a rule of its own.",
        "Among the linear matrices whose rule is known, those at the default are fewer than half.",
        "A module was added after the function that initializes the model ran, or is of a type that it does not "
        "handle (a subclass, Conv1D, an adapter).",
        "Apply the function to the whole model at the end, and let it raise for types that it does not know.",
    ),
    "INI008": Explanation(
        "Most matrices have first values that none of the well-known initializers would draw. Nothing is wrong by that "
        "alone: it tells that the audit had little to hold on to.",
        "More than {unknown_share:.0%} of the matrices match no rule at step 0.",
        "The model began from trained weights, which is the most frequent case; or it uses a scheme of its own.",
        "If training should have begun from scratch, look for a checkpoint that was loaded. Name your own scheme with "
        "wdyn.init_audit(run, expected=...).",
    ),
    "TIE001": Explanation(
        "Two names were one weight and are two now. From that step on they learn apart, the model has more "
        "parameters than you think, and a checkpoint may keep only one of them.",
        "The two shared memory at one recorded step, or when recording began, and not at a later one.",
        "load_state_dict(assign=True), to_empty(), a cast or move of one module, a new Parameter, or a wrapper that "
        "flattens parameters.",
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
"""By code, of the analyzers that wdyn comes with."""
