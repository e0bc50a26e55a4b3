"""What do the findings about adapters mean at length?"""

from wdyn.reports.explanations.explanation import Explanation

ADAPTERS = {
    "LOR001": Explanation(
        "The adapter was recorded while the model trained, and one of its two factors is all zeros at every snapshot. "
        "It adds nothing to its weight and has learned nothing.",
        "At every snapshot, of which there are two or more, all values of A or all values of B are exactly zero.",
        "Another adapter is the active one, its parameters do not train or are missing in the optimizer, or the "
        "forward never reaches the module that it sits on.",
        "Look at requires_grad and at the parameter groups, call set_adapter with its name, or leave the module out of "
        "target_modules.",
    ),
    "LOR002": Explanation(
        "An adapter is meant to learn a small change of a weight that stays as it is. Here the weight under it trains "
        "too, so what the training changed is not in the adapter alone, and saving the adapter loses a part of it.",
        "The rows of states say that the base weight was trainable at a recorded step.",
        "requires_grad_(True) on the whole model after the adapter was added, or modules_to_save that hold the weight.",
        "Freeze the base before you make the optimizer, or train it without an adapter and save it whole.",
    ),
    "LOR003": Explanation(
        "What the adapter adds is not small beside the weight that it is added to. That can be meant; for a light "
        "fine-tuning it is a sign that much of what the weight knew is written over.",
        "The Frobenius norm of the whole change, alpha / r included, over the norm of the weight as it was first "
        "recorded, at the last snapshot.",
        "A large learning rate, a large alpha, long training, or a weight that is small by itself.",
        "Compare with the validation loss on what the model could do before. Lower the learning rate or alpha, or stop "
        "earlier.",
    ),
    "LOR004": Explanation(
        "The change lies in few directions: most of the singular values of B A are close to zero, so the rank that was "
        "paid for is mostly unused.",
        "The effective rank, exp of the entropy of the singular values, over the rank, at the last snapshot.",
        "A task that needs few directions, a short training, or a large rank with alpha / r, which makes the updates "
        "of large ranks small.",
        "Try a smaller rank and compare the losses; if you want the large one, try rsLoRA, which divides by the root "
        "of the rank.",
    ),
    "LOR005": Explanation(
        "The factors of the adapter are there, but not the number by which PEFT multiplies their product. Without it "
        "the size of the change cannot be told; the rank it uses can.",
        "No attempt of the run tells a scale for this adapter.",
        "The run was imported from files, or the adapter was added after recording began, or is not one of PEFT.",
        "Record with wdyn.watch once the adapter is in the model. In adapter_config.json it is lora_alpha / r.",
    ),
}
