"""Are splits and heads said in words that are true?"""

import pytest

from wdyn.reports.splits import UNKNOWN, split_words
from wdyn.schema import Parts, parts_to_json


def row(role, parts=None, heads=0, kv_heads=0, head_dim=0):
    text = parts_to_json(parts)
    return {"role": role, "parts": text, "heads": heads, "kv_heads": kv_heads, "head_dim": head_dim}


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (row("q", heads=4, kv_heads=2, head_dim=8), "4 heads of 8"),
        (row("k", heads=4, kv_heads=2, head_dim=8), "2 heads of 8"),
        (row("cross_v", heads=4, kv_heads=1, head_dim=8), "1 head of 8"),
        (row("o", heads=4, kv_heads=2, head_dim=8), "4 heads of 8"),
        (row("qkv", Parts(1, ("q", "k", "v"), (32, 32, 32)), 4, 4, 8), "q 32, k 32, v 32; 4 heads of 8"),
        (
            row("qkv", Parts(0, ("q", "k", "v"), (16, 8, 8), 2), 4, 2, 8),
            "2 × (q 16, k 8, v 8); 4 heads of 8, 2 of k and v",
        ),
        (row("qkv", Parts(0, ("q", "k", "v"), (8, 8, 8), 1, "convention")), "q 8, k 8, v 8 by convention"),
        (row("linear", Parts(0, ("q", "k"), (8, 8), 1, "user")), "q 8, k 8 as declared"),
        (row("qkv", heads=4, kv_heads=4, head_dim=8), f"{UNKNOWN}; 4 heads of 8"),
        (row("mlp_gate_up"), UNKNOWN),
        (row("kv"), UNKNOWN),
        (row("mlp_up"), ""),
        ({"role": "qkv"}, ""),  # a table without that column says nothing
    ],
)
def test_split_words__say_what_is_known(told, words):
    assert split_words(told) == words
