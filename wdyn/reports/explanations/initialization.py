"""What do the findings about first values mean at length?"""

from wdyn.reports.explanations.explanation import Explanation

INITIALIZATION = {
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
        "The tied weight follows the rule of the linear layers, while no embedding with values of its own does. The "
        "audit's verdict on it is 'overridden by tying'.",
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
    "INI009": Explanation(
        "Both factors of an adapter are zero. What it adds is their product, and the gradient of each is a product "
        "with the other: nothing will ever move, however long it trains.",
        "Mean and std of both factors, lora_A and lora_B of one weight, are exactly 0 at step 0.",
        "A function that sets every new parameter to zero, weights that were made and never filled, or a checkpoint "
        "with another adapter's names.",
        "Draw one factor (PEFT draws A by kaiming_uniform with a=sqrt(5)) and leave the other at zero.",
    ),
    "INI010": Explanation(
        "Neither factor of an adapter is zero, so that it changes the model before it has learned anything: training "
        "begins from another model than the one that was to be adapted.",
        "Mean or std of both factors, lora_A and lora_B of one weight, differ from 0 at step 0.",
        "An adapter that was trained before, PiSSA or OLoRA, which take their share from the adapted weight, or an "
        "initializer that ran over the factors too.",
        "Nothing in the first two cases. Otherwise set the second factor to zero after all other initialization.",
    ),
}
