"""Which models does the anatomy have to get right, and what is right for each?

`BUILDERS` makes every model small; ``layouts.txt`` beside this file says what holds of each one. Its format: a title
with the stacks and their numbers of blocks, then ``names role [stack]``, where ``*`` is the layer, ``#`` any other
index, and a name may list its last components (``weight/bias``); ``tied`` lists names of one storage, ``parts`` a split
of a role.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
import transformers
from torch import nn


@dataclass
class Expected:
    """What must be said of one model."""

    stacks: dict[str, int]
    rows: list[tuple[str, str, str]] = field(default_factory=list)
    tied: set[frozenset[str]] = field(default_factory=set)
    parts: dict[str, list[tuple[int, int, tuple[str, ...], tuple[int, ...]]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._patterns: list[tuple[re.Pattern[str], str, str]] = []

    def of(self, name: str) -> tuple[str, int, str]:
        """Role, layer and stack ("" outside blocks) of a name, which exactly one row has to cover."""
        if not self._patterns:
            self._patterns = [(re.compile(_pattern(row)), role, stack) for row, role, stack in self.rows]
        found = [(m, role, stack) for pattern, role, stack in self._patterns if (m := pattern.fullmatch(name))]
        if len(found) != 1:
            raise LookupError(f"{len(found)} rows of the table cover {name}; it needs one")
        match, role, stack = found[0]
        layer = int(match["layer"]) if "layer" in match.re.groupindex else -1
        return role, layer, "" if layer < 0 else stack or next(iter(self.stacks))


def _pattern(row: str) -> str:
    body, _, tail = row.rpartition(".")
    tails = "|".join(re.escape(one).replace(r"\*", r"(?P<layer>\d+)") for one in tail.split("/"))
    escaped = re.escape(body).replace(r"\*", r"(?P<layer>\d+)").replace(r"\#", r"\d+").replace("#", r"\d+")
    tails = tails.replace(r"\#", r"\d+").replace("#", r"\d+")
    return (escaped + r"\." if body else "") + f"(?:{tails})"


def expectations() -> dict[str, Expected]:
    """Read the table."""
    found: dict[str, Expected] = {}
    for line in Path(__file__).with_name("layouts.txt").read_text().splitlines():
        first, *rest = line.split() or [""]
        if first.startswith("["):
            pairs = (pair.split("=") for pair in rest)
            current = found[first.strip("[]")] = Expected({stack: int(count) for stack, count in pairs})
        elif first == "tied":
            current.tied.add(frozenset(rest))
        elif first == "parts":
            role, axis, repeats, *sizes = rest
            names, counts = zip(*(size.split(":") for size in sizes), strict=True)
            split = (int(axis.split("=")[1]), int(repeats.split("=")[1]), names, tuple(map(int, counts)))
            current.parts.setdefault(role, []).append(split)
        elif first:
            current.rows.append((first, rest[0], rest[1] if len(rest) > 1 else ""))
    return found


# Builders of models.

D, H, V = 32, 4, 97


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(shape))


def linear(fan_in: int, fan_out: int, *, bias: bool = False) -> nn.Linear:
    return nn.Linear(fan_in, fan_out, bias=bias)


def module(**parts: nn.Module | torch.Tensor) -> nn.Module:
    """A module with these children, parameters and buffers, in this order."""
    made = nn.Module()
    for name, part in parts.items():
        if isinstance(part, nn.Module):
            made.add_module(name, part)
        elif isinstance(part, nn.Parameter):
            made.register_parameter(name, part)
        else:
            made.register_buffer(name, part)
    return made


def several(count: int, make: Callable[[], nn.Module]) -> nn.ModuleList:
    return nn.ModuleList([make() for _ in range(count)])


def _hf(cls: str, model_type: str, **settings: object) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        torch.manual_seed(0)
        return getattr(transformers, cls)(transformers.CONFIG_MAPPING[model_type](**settings))

    return build


_GPT2 = {"vocab_size": V, "n_embd": D, "n_head": H}
_BASE = {"vocab_size": V, "hidden_size": D, "num_hidden_layers": 3, "num_attention_heads": H}
_WIDE = {**_BASE, "intermediate_size": 48, "max_position_embeddings": 40}
_GROUPED = {**_WIDE, "num_key_value_heads": 2}
_PAIR = {
    "vocab_size": V, "d_model": D, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": H,
    "decoder_attention_heads": H, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
}  # fmt: skip
_TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
_LATENT = {"kv_lora_rank": 10, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 8}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "head_dim": 8}


class _Attention(nn.Module):
    """The attention of a GPT as people write it: one Linear for q, k and v, and the causal mask as a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.n_head = H
        self.c_attn, self.c_proj = nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.register_buffer("bias", torch.ones(1, 1, 8, 8).tril())


class _Norm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = parameter(D), parameter(D)


def _nano_gpt(layers: int = 3) -> nn.Module:
    def block() -> nn.Module:
        mlp = module(c_fc=nn.Linear(D, 4 * D), c_proj=nn.Linear(4 * D, D))
        return module(ln_1=_Norm(), attn=_Attention(), ln_2=_Norm(), mlp=mlp)

    body = module(wte=nn.Embedding(V, D), wpe=nn.Embedding(8, D), h=several(layers, block), ln_f=_Norm())
    model = module(transformer=body, lm_head=linear(D, V))
    model.lm_head.weight = model.transformer.wte.weight
    return model


def _nano_chat() -> nn.Module:
    def block() -> nn.Module:
        attention = module(c_q=linear(D, D), c_k=linear(D, 16), c_v=linear(D, 16), c_proj=linear(D, D))
        return module(attn=attention, mlp=module(c_fc=linear(D, 4 * D), c_proj=linear(4 * D, D)))

    body = module(wte=nn.Embedding(V, D), h=several(4, block))
    values = nn.ModuleDict({"1": nn.Embedding(V, 16), "3": nn.Embedding(V, 16)})
    return module(resid_lambdas=parameter(4), transformer=body, lm_head=linear(D, V), value_embeds=values)


def _heads_as_an_axis() -> nn.Module:
    def norm() -> nn.Module:
        return module(w=parameter(D), b=parameter(D))

    def block() -> nn.Module:
        matrices = {f"W_{name}": parameter(H, D, 8) for name in "QKV"} | {"W_O": parameter(H, 8, D)}
        biases = {f"b_{name}": parameter(H, 8) for name in "QKV"} | {"b_O": parameter(D)}
        mlp = module(W_in=parameter(D, 128), b_in=parameter(128), W_out=parameter(128, D), b_out=parameter(D))
        return module(ln1=norm(), attn=module(**matrices, **biases), ln2=norm(), mlp=mlp)

    ends = {"ln_final": norm(), "unembed": module(W_U=parameter(D, V), b_U=parameter(V))}
    start = {"embed": module(W_E=parameter(V, D)), "pos_embed": module(W_pos=parameter(8, D))}
    return module(**start, blocks=several(2, block), **ends)


def _lecture_gpt() -> nn.Module:
    def head() -> nn.Module:
        return module(key=linear(D, 8), query=linear(D, 8), value=linear(D, 8))

    def block() -> nn.Module:
        net = nn.Sequential(nn.Linear(D, 4 * D), nn.ReLU(), nn.Linear(4 * D, D))
        attention = module(heads=several(H, head), proj=nn.Linear(D, D))
        return module(sa=attention, ffwd=module(net=net), ln1=nn.LayerNorm(D), ln2=nn.LayerNorm(D))

    start = {"token_embedding_table": nn.Embedding(V, D), "position_embedding_table": nn.Embedding(8, D)}
    return module(**start, blocks=nn.Sequential(*several(3, block)), ln_f=nn.LayerNorm(D), lm_head=nn.Linear(D, V))


def _vision_blocks() -> nn.Module:
    def block() -> nn.Module:
        attention = module(qkv=nn.Linear(D, 3 * D), proj=nn.Linear(D, D))
        mlp = module(fc1=nn.Linear(D, 4 * D), fc2=nn.Linear(4 * D, D))
        scale = module(gamma=parameter(D))
        return module(norm1=nn.LayerNorm(D), attn=attention, ls1=scale, norm2=nn.LayerNorm(D), mlp=mlp)

    start = {"cls_token": parameter(1, 1, D), "pos_embed": parameter(1, 17, D)}
    patch = module(proj=nn.Conv2d(3, D, 4, 4))
    return module(**start, patch_embed=patch, blocks=several(3, block), norm=nn.LayerNorm(D), head=nn.Linear(D, 10))


def _nested_lists() -> nn.Module:
    def attention() -> nn.Module:
        out = nn.Sequential(nn.Linear(D, D), nn.Dropout())
        return module(norm=nn.LayerNorm(D), to_qkv=linear(D, 3 * D), to_out=out)

    def feed_forward() -> nn.Module:
        return module(net=nn.Sequential(nn.LayerNorm(D), nn.Linear(D, 64), nn.GELU(), nn.Linear(64, D)))

    layers = several(2, lambda: nn.ModuleList([attention(), feed_forward()]))
    body = module(norm=nn.LayerNorm(D), layers=layers)
    start = {"pos_embedding": parameter(1, 17, D), "cls_token": parameter(1, 1, D)}
    patch = nn.Sequential(nn.Identity(), nn.LayerNorm(48), nn.Linear(48, D))
    return module(**start, to_patch_embedding=patch, transformer=body, mlp_head=nn.Linear(D, 10))


def _lettered_gates() -> nn.Module:
    def block() -> nn.Module:
        attention = module(wq=linear(D, D), wk=linear(D, 16), wv=linear(D, 16), wo=linear(D, D))
        mlp = module(w1=linear(D, 64), w2=linear(64, D), w3=linear(D, 64))
        norms = {name: module(weight=parameter(D)) for name in ("attention_norm", "ffn_norm")}
        return module(attention=attention, feed_forward=mlp, **norms)

    start = {"tok_embeddings": nn.Embedding(V, D), "layers": several(2, block)}
    return module(**start, norm=module(weight=parameter(D)), output=linear(D, V))


def _listed_experts() -> nn.Module:
    def expert() -> nn.Module:
        return module(w1=linear(D, 64), w2=linear(64, D), w3=linear(D, 64))

    def block() -> nn.Module:
        projections = {f"{name}_proj": linear(D, D) for name in "qkvo"}
        moe = module(gate=linear(D, 4), experts=several(4, expert))
        return module(self_attn=module(**projections), block_sparse_moe=moe, input_layernorm=_Norm())

    body = module(embed_tokens=nn.Embedding(V, D), layers=several(2, block), norm=_Norm())
    return module(model=body, lm_head=linear(D, V))


def _diffusion_blocks() -> nn.Module:
    def attention(fan_in: int) -> nn.Module:
        out = nn.ModuleList([nn.Linear(D, D), nn.Dropout()])
        return module(to_q=linear(D, D), to_k=linear(fan_in, D), to_v=linear(fan_in, D), to_out=out)

    def block() -> nn.Module:
        net = nn.ModuleList([module(proj=nn.Linear(D, 256)), nn.Dropout(), nn.Linear(128, D)])
        norms = {f"norm{number}": nn.LayerNorm(D) for number in (1, 2, 3)}
        return module(**norms, attn1=attention(D), attn2=attention(24), ff=module(net=net))

    return module(transformer_blocks=several(2, block), proj_out=nn.Linear(D, 4))


def _stages() -> nn.Module:
    def basic(fan_in: int, fan_out: int) -> nn.Module:
        body = {"conv1": nn.Conv2d(fan_in, fan_out, 3), "bn1": nn.BatchNorm2d(fan_out)}
        if fan_in == fan_out:
            return module(**body)
        return module(**body, downsample=nn.Sequential(nn.Conv2d(fan_in, fan_out, 1), nn.BatchNorm2d(fan_out)))

    widths = ((8, 8), (8, 16), (16, 24))
    stages = {
        f"layer{number}": nn.Sequential(basic(*pair), basic(pair[1], pair[1])) for number, pair in enumerate(widths, 1)
    }
    return module(conv1=nn.Conv2d(3, 8, 7), bn1=nn.BatchNorm2d(8), **stages, fc=nn.Linear(24, 10))


def _graph_convolutions() -> nn.Module:
    convs = nn.ModuleList([module(bias=parameter(16), lin=linear(size, 16)) for size in (8, 16, 16)])
    return module(convs=convs, bns=several(3, lambda: nn.BatchNorm1d(16)), lin=nn.Linear(16, 4))


def _unnamed() -> nn.Module:
    """No word helps here but q, k, v, o: everything else is told by the tree, the modules and the shapes."""

    def block() -> nn.Module:
        attention = module(q=linear(D, D), k=linear(D, D), v=linear(D, D), o=linear(D, D))
        return module(n1=nn.LayerNorm(D), a=attention, n2=nn.LayerNorm(D), l1=nn.Linear(D, 64), l2=nn.Linear(64, D))

    return module(e=nn.Embedding(V, D), stuff=several(3, block), n=nn.LayerNorm(D), u=nn.Linear(D, V))


def _adapted() -> nn.Module:
    """A Llama with low-rank adapters on q and v, as PEFT names it."""
    model = BUILDERS["llama"]()
    for layer in model.model.layers:
        for name in ("q_proj", "v_proj"):
            base = getattr(layer.self_attn, name)
            size = {"lora_A": linear(base.in_features, 2), "lora_B": linear(2, base.out_features)}
            factors = {key: nn.ModuleDict({"default": factor}) for key, factor in size.items()}
            setattr(layer.self_attn, name, module(base_layer=base, **factors))
    return module(base_model=module(model=model))


def _two_towers() -> nn.Module:
    text = {
        "vocab_size": V,
        "hidden_size": D,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": H,
    }
    vision = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 3}
    config = transformers.CLIPConfig(
        text_config={**text, "max_position_embeddings": 20},
        vision_config={**vision, "image_size": 16, "patch_size": 4},
        projection_dim=16,
    )
    return transformers.CLIPModel(config)


def _encoder_layers() -> nn.Module:
    layer = nn.TransformerEncoderLayer(D, H, 48, batch_first=True)
    return nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)


BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "gpt2": _hf("GPT2LMHeadModel", "gpt2", **_GPT2, n_layer=3, n_positions=40),
    "gpt2_cross": _hf("GPT2LMHeadModel", "gpt2", **_GPT2, n_layer=2, n_positions=40, add_cross_attention=True),
    "gpt_neox": _hf("GPTNeoXForCausalLM", "gpt_neox", **_WIDE),
    "opt": _hf("OPTForCausalLM", "opt", **_BASE, ffn_dim=48, word_embed_proj_dim=16, do_layer_norm_before=False),
    "bloom": _hf("BloomForCausalLM", "bloom", vocab_size=V, hidden_size=D, n_layer=3, n_head=H),
    "gptj": _hf("GPTJForCausalLM", "gptj", **_GPT2, n_layer=2, rotary_dim=4),
    "falcon": _hf("FalconForCausalLM", "falcon", **_BASE, multi_query=True, new_decoder_architecture=False),
    "falcon_grouped": _hf("FalconForCausalLM", "falcon", **_BASE, new_decoder_architecture=True, num_kv_heads=2),
    "gpt_bigcode": _hf("GPTBigCodeForCausalLM", "gpt_bigcode", **_GPT2, n_layer=2),
    "llama": _hf("LlamaForCausalLM", "llama", **_GROUPED, tie_word_embeddings=False),
    "llama_tied": _hf("LlamaForCausalLM", "llama", **_GROUPED, tie_word_embeddings=True),
    "mistral": _hf("MistralForCausalLM", "mistral", **_GROUPED),
    "gemma2": _hf("Gemma2ForCausalLM", "gemma2", **_GROUPED, head_dim=8),
    "cohere": _hf("CohereForCausalLM", "cohere", **_GROUPED),
    "olmo2": _hf("Olmo2ForCausalLM", "olmo2", **_GROUPED),
    "starcoder2": _hf("Starcoder2ForCausalLM", "starcoder2", **_GROUPED),
    "qwen2": _hf("Qwen2ForCausalLM", "qwen2", **_GROUPED, tie_word_embeddings=True),
    "qwen3_moe": _hf("Qwen3MoeForCausalLM", "qwen3_moe", **_GROUPED, **_EXPERTS, mlp_only_layers=[0]),
    "mixtral": _hf("MixtralForCausalLM", "mixtral", **_GROUPED, num_local_experts=4),
    "phi3": _hf("Phi3ForCausalLM", "phi3", **_GROUPED, pad_token_id=0),
    "gpt_oss": _hf("GptOssForCausalLM", "gpt_oss", **_GROUPED, head_dim=8, num_local_experts=4),
    "deepseek_v3": _hf(
        "DeepseekV3ForCausalLM", "deepseek_v3", **_WIDE, **_LATENT, num_key_value_heads=H, q_lora_rank=12,
        n_routed_experts=4, n_group=2, topk_group=1, num_experts_per_tok=2, moe_intermediate_size=24,
        first_k_dense_replace=1,
    ),
    "bert": _hf("BertForMaskedLM", "bert", **_WIDE),
    "roberta": _hf("RobertaForSequenceClassification", "roberta", **_WIDE),
    "distilbert": _hf("DistilBertForMaskedLM", "distilbert", vocab_size=V, dim=D, hidden_dim=48, n_layers=3, n_heads=H),
    "albert": _hf("AlbertForMaskedLM", "albert", **_WIDE, embedding_size=16),
    "modernbert": _hf("ModernBertForMaskedLM", "modernbert", **_WIDE, pad_token_id=0),
    "deberta": _hf(
        "DebertaV2ForMaskedLM", "deberta-v2", **_WIDE, relative_attention=True, pos_att_type=["p2c", "c2p"],
        share_att_key=False, type_vocab_size=0,
    ),
    "electra": _hf("ElectraForMaskedLM", "electra", **_WIDE, embedding_size=16),
    "t5": _hf(
        "T5ForConditionalGeneration", "t5", vocab_size=V, d_model=D, d_kv=8, d_ff=48, num_layers=2,
        num_decoder_layers=3, num_heads=H,
    ),
    "bart": _hf("BartForConditionalGeneration", "bart", **_PAIR, max_position_embeddings=40),
    "marian": _hf("MarianMTModel", "marian", **_PAIR, **_TOKENS, max_position_embeddings=40),
    "whisper": _hf(
        "WhisperForConditionalGeneration", "whisper", **_PAIR, **_TOKENS, max_source_positions=20,
        max_target_positions=20, num_mel_bins=8,
    ),
    "vit": _hf(
        "ViTForImageClassification", "vit", hidden_size=D, intermediate_size=48, num_hidden_layers=3,
        num_attention_heads=H, image_size=16, patch_size=4,
    ),
    "resnet": _hf(
        "ResNetForImageClassification", "resnet", embedding_size=8, hidden_sizes=[8, 16, 24], depths=[1, 2, 1],
        layer_type="basic",
    ),
    "mamba": _hf("MambaForCausalLM", "mamba", vocab_size=V, hidden_size=D, state_size=4, num_hidden_layers=3),
    "mamba2": _hf(
        "Mamba2ForCausalLM", "mamba2", vocab_size=V, hidden_size=D, state_size=8, num_hidden_layers=3, num_heads=8,
        head_dim=8, n_groups=1, expand=2,
    ),
    "jamba": _hf(
        "JambaForCausalLM", "jamba", **{**_GROUPED, "num_hidden_layers": 4}, num_experts=4, attn_layer_period=3,
        attn_layer_offset=1, expert_layer_period=2, expert_layer_offset=1, mamba_d_state=4, mamba_dt_rank=4,
        use_mamba_kernels=False,
    ),
    "rwkv": _hf(
        "RwkvForCausalLM", "rwkv", vocab_size=V, hidden_size=D, num_hidden_layers=3, attention_hidden_size=D,
        intermediate_size=48, context_length=40,
    ),
    "clip": _two_towers,
    "torch_encoder": _encoder_layers,
    "torch_transformer": lambda: nn.Transformer(D, H, 2, 3, 48, batch_first=True),
    "torch_attention": lambda: nn.MultiheadAttention(D, H),
    "lstm": lambda: nn.LSTM(16, 24, num_layers=3, bidirectional=True, proj_size=8),
    "gru": lambda: nn.GRU(8, 6, num_layers=2),
    "lstm_language_model": lambda: module(
        encoder=nn.Embedding(V, 16), rnn=nn.LSTM(16, 24, 2), decoder=nn.Linear(24, V)
    ),
    "nano_gpt": _nano_gpt,
    "one_block": lambda: _nano_gpt(1),
    "nano_chat": _nano_chat,
    "heads_as_an_axis": _heads_as_an_axis,
    "lecture_gpt": _lecture_gpt,
    "vision_blocks": _vision_blocks,
    "nested_lists": _nested_lists,
    "lettered_gates": _lettered_gates,
    "listed_experts": _listed_experts,
    "diffusion_blocks": _diffusion_blocks,
    "stages": _stages,
    "graph_convolutions": _graph_convolutions,
    "unnamed": _unnamed,
    "adapted": _adapted,
    "ensemble": lambda: module(models=several(2, lambda: _nano_gpt(2))),
    "sequential": lambda: nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4)),
    "perceptron": lambda: module(fc1=nn.Linear(8, 16), fc2=nn.Linear(16, 16), fc3=nn.Linear(16, 4)),
    "autoencoder": lambda: module(
        encoder=nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2)),
        decoder=nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 8)),
    ),
    "linear": lambda: nn.Linear(4, 3),
}  # fmt: skip


def built() -> Iterator[tuple[str, nn.Module, Expected]]:
    """Give every layout with its expectations, one at a time."""
    table = expectations()
    for name, build in BUILDERS.items():
        yield name, build(), table[name]
