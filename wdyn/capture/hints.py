"""What do the words that people use in names mean?

Data only: ordered tables, the first pattern that matches wins. A pattern is compared with a whole name in snake case
(`spelling.snake`): ``c_attn``, ``W_Q`` -> ``w_q``, ``fc1`` -> ``fc_1``, ``attention.output.dense`` -> ``output_dense``.
Families are not listed; a layout needs an entry only when it uses a word that no other one does.
"""

from __future__ import annotations

import re
from typing import Final

from wdyn.schema import Role

Table = tuple[tuple[Role, re.Pattern[str]], ...]

_PREFIX = r"(?:w|to|c|lin|linear|in_proj|attn|attention|fused|self|mixed)"
_SUFFIX = r"(?:proj|lin|linear|layer|lora|attn|a|b|w|weight|conv|fc|dense|mat|matrix|states|head|heads)"


def _named(word: str) -> str:
    return rf"(?:{_PREFIX}_?)?(?:{word})(?:_?{_SUFFIX})*"


def _table(*rows: tuple[Role, str]) -> Table:
    return tuple((role, re.compile(pattern)) for role, pattern in rows)


def lookup(table: Table, name: str) -> Role | None:
    """Give the role of the first pattern that matches all of `name`, None where none does."""
    return next((role for role, pattern in table if pattern.fullmatch(name)), None)


# Where the depth is.
NUMBERED_BLOCK: Final = re.compile(r"(.*?(?:layers?|blocks?|stages?|cells?))_?(\d+)")
BESIDE_BLOCKS: Final = frozenset(
    "expert experts head heads classifier pooler predictor projector score codebooks embed embeds embedding embeddings "
    "logits output outputs".split()
)

# Which stack: words of the components above a block, the towers of a pair before the halves of one model.
TOWERS: Final = (
    ("vision", frozenset("vision visual image img".split())),
    ("text", frozenset({"text"})),
    ("encoder", frozenset("encoder enc".split())),
    ("decoder", frozenset("decoder dec".split())),
)
LANGUAGE: Final = frozenset({"language"})
"""A word for the text tower, but only beside a vision tower: lone language models use it as well."""

# Words of a component.
NORM: Final = re.compile(r"(.*_)?(norm|layernorm|rmsnorm|batchnorm|groupnorm|ln|bn|gn|rms|normalization|norms)(_.*)?")
NORM_CLASS: Final = re.compile(r".*norm(_\d_?d)?")
ATTENTION: Final = re.compile(r".*(attn|attention|atten).*|att|mha|sa|msa|self_attn|attns")
CROSS: Final = re.compile(
    r".*(cross|enc_dec|encoder_decoder|src_attn|source_attn|encoder_attn|encoder_attention|inter_attention|context_attn).*"
    r"|attn_2|xattn|ca"
)
MLP: Final = re.compile(
    r"(.*_)?(mlp|ffn|ff|ffwd|feed_forward|feedforward|feed_fwd|dense_relu_dense|moe|experts?|intermediate|fc_block|mlps"
    r"|channel_mixing|ffns)(_.*)?"
)
EXPERTS: Final = frozenset({"expert", "experts"})
STATE_SPACE: Final = re.compile(r"a_log|a_real|log_a_real|a_logs|ssm_a|lambda_re")
"""A tensor called so makes its parent a state-space mixer."""
RECURRENCE: Final = re.compile(r"(time|channel)_(decay|first|mix|maa|faaaa|mixing).*|mu_.*|time_.*")

ROUTER: Final = re.compile(r".*router.*|gating.*|wg|shared_expert_gate|switch.*")
POSITION_BIAS: Final = re.compile(
    r".*(relative_attention_bias|relative_position_bias|rel_pos|relative_bias|attention_biases|position_bias).*|r_[wr]_bias"
    r"|pos_bias_[uv]|alibi.*"
)
POSITION_PROJECTION: Final = re.compile(
    r"(.*_)?(pos|position|rel|relative)_(.*_)?(proj|lin|linear)|linear_pos|r_net|pos_proj.*"
)

# Inside a branch of a block. RWKV's receptance reads what its keys and values wrote, as a query does.
ATTENTION_ROLES: Final = _table(
    (Role.QKV, _named("qkv|query_key_value|w_?pack|att_proj") + r"|c_attn|in_proj"),
    (Role.KV, _named("kv|key_value") + r"(_with_mqa)?|kv_[ab]_proj.*"),
    (Role.Q, _named("q|query|queries|receptance") + r"|[qd]_?(down|up)_?proj"),
    (Role.K, _named("k|key|keys")),
    (Role.V, _named("v|value|values")),
    (
        Role.O,
        r"(?:(?:w|to|c|lin|linear|attn|attention|self|att|resid)_?)?(?:o|out|output|proj|projection|dense)"
        r"(?:_?(?:proj|projection|lin|linear|layer|weight|dense|attn))*"
        r"|(.*_)?(attn|attention|att|self_attn)_(out|output|proj|dense|linear|projection)(_.*)?|fc|heads_proj|sa_proj|post_proj",
    ),
)
MLP_ROLES: Final = _table(
    (Role.ROUTER, r"shared_expert_gate"),
    (Role.MLP_GATE_UP, r"gate_up.*|up_gate.*|gate_and_up.*|w_?12|(in|input)_linear_fused"),
    (
        Role.MLP_GATE,
        r"(w|c|fc|linear|lin|mlp)?_?gate(_?(proj|linear|lin|layer))?|wi_0|fc_1_g|receptance|proj_gate|proj_up_gate",
    ),
    (Role.MLP_UP, r"(w|c|fc|linear|lin|mlp)?_?up(_?(proj|linear|lin|layer))?|wi_1|fc_1_x|v_1|proj_up"),
    (Role.MLP_DOWN, r"(w|c|fc|linear|lin|mlp)?_?down(_?(proj|linear|lin|layer))?|proj_down"),
    (
        Role.MLP_UP,
        r"(fc|lin|linear|ffn|dense|conv|w|linear_fc|ff|mlp)_?1|c_fc|wi|w_in|dense_h_to_4h|fc_in|(.*_)?intermediate(_dense)?"
        r"|input_linear|key|ffn|ff_proj|expand.*|in_proj|inner.*|up",
    ),
    (
        Role.MLP_DOWN,
        r"(fc|lin|linear|ffn|dense|conv|w|linear_fc|ff|mlp)_?2|c_proj|wo|w_out|dense_4h_to_h|fc_out|(.*_)?output(_dense)?"
        r"|output_linear|value|ffn_output|ff_out|out_proj|contract.*",
    ),
)
THREE: Final = re.compile(r"(fc|lin|linear|w|ffn|fc_)_?([123])")
"""Beside a third one, the first of them is the gate: w2(act(w1 x) * w3 x)."""

# Words that no attention uses, so that they mean an MLP also right below the block.
PLAIN_MLP: Final = re.compile(
    r"(fc|lin|linear|ffn|w|mlp)_?[123]|c_fc|fc_in|fc_out|(.*_)?intermediate(_dense)?|output_dense|ffn(_.*)?|ff_.*|wi(_\d)?"
    r"|dense_h_to_4h|dense_4h_to_h|(gate|up|down|gate_up)(_proj)?|input_linear|output_linear|w_in|w_out|w_gate|c_gate"
)

# Outside blocks.
TYPE_EMBEDDING: Final = re.compile(r".*(token_type|segment|sentence_type|modality).*|type_embed.*")
POSITION: Final = re.compile(r"(.*_)?(pos|position|positions|positional|wpe|posemb|w_pos|rel|relative)(_.*)?")
PATCH: Final = re.compile(r"(.*_)?(patch|patches|patchify|patch_embed|patch_embedding|conv_proj)(_.*)?")
VALUE_EMBEDDING: Final = re.compile(r"value_embed.*|v_embed.*|ve|ve_\d+")
UNEMBEDDING: Final = re.compile(
    r"lm_head|embed_out|unembed.*|w_u|vocab_projector|to_logits|output_projection|generator(_proj)?|lm_heads|logits|output_layer"
    r"|logits_proj|unembedding|predictions_decoder|lm_head_decoder|generator_lm_head"
)
EMBEDDING_PROJECTION: Final = re.compile(
    r"project_(in|out)|embedding_hidden_mapping_in|embed(ding|dings)?_proj(ect|ection)?(_.*)?|emb_proj|embeddings_project"
)
EMBEDDING: Final = re.compile(
    r"(.*_)?(wte|embed|embeds|embedding|embeddings|emb|embs|w_e|shared|word_embeddings|tok_emb|embed_in|cls_token|dist_token"
    r"|mask_token|register_tokens|query_tokens|tok|token|tokens|vocab|class_token|class_embedding|cls|prompt_tokens|soft_prompt)(_.*)?"
)
HEAD: Final = re.compile(
    r"(.*_)?(head|heads|classifier|classification|pooler|score|qa_outputs|cls|predictions?|predictor|logits?|vocab_transform"
    r"|transform|text_projection|visual_projection|final_proj|readout|reward)(_.*)?"
)
PLAIN_HEAD: Final = re.compile(r"fc|output|out|proj_out|out_proj|output_layer|policy|value|lm_head")
LINEAR: Final = re.compile(r"(.*_)?(lin|linear|fc|dense|proj|projection|mlp)(_.*)?")
"""Words for a matrix without a bias that is no embedding, in a state dict where no module tells."""

# Buffers of a state dict, where no module can say so.
BUFFER: Final = re.compile(
    r"running_(mean|var)|num_batches_tracked|(.*_)?inv_freq|position_ids|token_type_ids|masked_bias|relative_position_index"
    r"|(cos|sin)_cached|freqs_cis|(.*_)?rotary.*|e_score_correction_bias|n_averaged|attn_mask|relative_coords_table|tril"
    r"|final_logits_bias"
)
