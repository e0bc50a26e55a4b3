"""Is rounding told from training, in one tensor and in a whole model?"""

import torch

from wdyn.checkpoints.casts import Cast, casts
from wdyn.checkpoints.pairs import compare


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def told(**pairs):
    keys = {(name, name): pair for name, pair in pairs.items()}
    found = casts(
        {key: compare(*pair) for key, pair in keys.items()},
        dtypes={key: (a.dtype, b.dtype) for key, (a, b) in keys.items()},
    )
    return {name: found[name, name] for name in pairs}


def test_casts__say_to_what():
    a = drawn(6, 5)
    assert told(w=(a, a.bfloat16())) == {"w": Cast("bfloat16", "")}
    assert told(w=(a.bfloat16(), a)) == {"w": Cast("", "bfloat16")}
    assert told(w=(a.bfloat16(), a.bfloat16().float())) == {"w": Cast("float32", "bfloat16")}  # and back without a loss


def test_casts__see_a_model_that_was_rounded_and_kept_wide():
    a, b = drawn(6, 5), drawn(7)
    assert told(w=(a, a.half().float()), b=(b, b.half().float())) == dict.fromkeys("wb", Cast("float16", ""))


def test_casts__take_no_small_change_for_rounding():
    # Ones that moved by less than bfloat16 resolves are ones again once rounded.
    norm = torch.ones(8)
    moved = norm + 1e-3 * drawn(8).abs()
    assert not told(n=(norm, moved))["n"]
    w = drawn(6, 5)
    assert not any(told(n=(norm, moved), w=(w, w + 1e-3)).values())


def test_casts__keep_frozen_ones_beside_trained_ones():
    frozen, trained = drawn(6, 5), drawn(6, 5, seed=1)
    found = told(f=(frozen, frozen.bfloat16()), t=(trained, (trained + 0.1).bfloat16()))
    assert found == {"f": Cast("bfloat16", ""), "t": Cast()}


def test_casts__are_none_of_what_is_equal():
    a = drawn(3, 3)
    assert not told(w=(a, a.clone()))["w"]
