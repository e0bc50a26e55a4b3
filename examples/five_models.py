"""What does `wdyn info` say of different models? Run it: python examples/five_models.py [directory].

Each model is only a config: nothing is trained, downloaded or even put into memory.
"""

import sys
from pathlib import Path

import transformers

from wdyn.cli import main

SMALL = {"vocab_size": 1000, "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4}

MODELS = {
    # Fused q, k, v, stored (fan_in, fan_out); the unembedding is the embedding.
    "GPT2LMHeadModel": transformers.GPT2Config(),
    # Grouped queries and a gated MLP.
    "LlamaForCausalLM": transformers.LlamaConfig(**SMALL, intermediate_size=160, num_key_value_heads=2),
    # Two stacks, and two attentions in each block of the second.
    "T5ForConditionalGeneration": transformers.T5Config(vocab_size=1000, d_model=64, d_kv=16, d_ff=128, num_heads=4),
    # Experts in one tensor, with a router.
    "MixtralForCausalLM": transformers.MixtralConfig(**SMALL, intermediate_size=96, num_local_experts=8),
    # No attention at all.
    "MambaForCausalLM": transformers.MambaConfig(vocab_size=1000, hidden_size=64, num_hidden_layers=4),
}


def show(directory: Path) -> None:
    """Write each config into a folder of its own, and print what it describes."""
    for name, config in MODELS.items():
        config.architectures = [name]
        config.save_pretrained(directory / name)
        print(f"$ wdyn info {name}")
        main(["info", str(directory / name)], standalone_mode=False)
        print()


if __name__ == "__main__":
    show(Path(sys.argv[1] if len(sys.argv) > 1 else "models"))
