"""What do the findings about two models that are to be the same mean at length?"""

from wdyn.reports.explanations.explanation import Explanation

ROUND_TRIP = {
    "INT001": Explanation(
        "Weights that both models have differ in at least one bit, or in their dtype. The second is not the first.",
        "The bits of a parameter differ, NaN and the sign of zero included, or it was cast to another dtype.",
        "Training went on in between, weights were saved in half precision, merged, quantized, or loaded in "
        "another dtype.",
        "See how far each went with wdyn diff A B: a cast, a merge and a fine-tune look unlike each other there.",
    ),
    "INT002": Explanation(
        "A parameter is in one model only, has another shape, or another name. Loading may leave it at random.",
        "A name is missing or new, and no other name of the same model shares its memory; or it has a new one.",
        "A head was left out or added, the vocabulary was resized, or a wrapper put its prefix before the names.",
        "Compare with wdyn diff A B, save the state of the unwrapped model, and load it with strict=True.",
    ),
    "INT003": Explanation(
        "Names that share one weight in one model have weights of their own in the other. Training moves them apart.",
        "The groups of names that share memory differ. Names that a file leaves out are tied as its config says.",
        "A file that holds both names apart, tie_word_embeddings set otherwise, or weights assigned after tying.",
        "Tie them again after loading (model.tie_weights()), before the optimizer is made.",
    ),
    "INT004": Explanation(
        "The configs say different things, so that the same weights may make another model.",
        "The value of a key differs, or the key is in one of them only. Keys that tell how the file was saved "
        "(transformers_version, _name_or_path) are not looked at.",
        "Another version of the library with other defaults, an edit by hand, or a config of another model.",
        "Look at each key that is named, and save the config of the model itself beside its weights.",
    ),
    "INT005": Explanation(
        "The tokenizers differ, or only one folder has one. The same text would become other tokens.",
        "A file of the tokenizer differs in its content, or is in one folder only. JSON is compared by what it says.",
        "Tokens were added, the tokenizer was saved by another version, or never saved beside the model.",
        "Save the tokenizer with save_pretrained into the folder of the model that it was trained with.",
    ),
    "INT006": Explanation(
        "The library that is to load the model cannot, or makes up weights that the file lacks.",
        "from_pretrained or the first run fails; or parameters are missing on one side and not on the other.",
        "A file that was cut short, a config that does not fit the weights, names with the prefix of a wrapper.",
        "Load it by hand to see the whole error, and save the unwrapped model with save_pretrained.",
    ),
    "INT007": Explanation(
        "The two models give different outputs on the same input, whatever their files look like.",
        "The largest difference on a random input is above {tolerance}, in float32 and without dropout, or one is NaN.",
        "Weights that differ, a config that changes how they are used, or weights made up on loading.",
        "See which weights differ with wdyn diff A B, then which keys of the config.",
    ),
    "INT008": Explanation(
        "The outputs agree, but they do not depend on the input, so that their agreement proves nothing.",
        "The variance of the output over the positions of a random input is 0 or NaN in one of the models.",
        "A last layer that is still zero, as some heads begin; NaN in the weights; a norm whose weight is zero.",
        "Look at the last layer and at the norms, and compare on real input.",
    ),
    "INT009": Explanation(
        "The states of the optimizers differ, so that training goes on otherwise from one than from the other.",
        "A setting of a group differs, or a moment differs in at least one bit, or is in one of them only.",
        "The optimizer was saved at another step, made anew, or loaded with its settings replaced.",
        "Save the optimizer together with the weights, at the same step, and load both.",
    ),
}
