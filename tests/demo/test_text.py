"""Does the text come back as it was, and does the second half of a batch lie one character ahead?"""

from itertools import islice

import torch

from wdyn.demo.text import batches, corpus


def test_corpus__spells_the_manual_of_python():
    text = corpus()
    assert len(text.tokens) > 200_000
    assert "assert" in text.decode(text.tokens)
    assert int(text.tokens.max()) == len(text.alphabet) - 1


def test_corpus__gives_back_the_same_text():
    assert corpus("to be or not").decode(corpus("to be or not").tokens) == "to be or not"


def test_batches__are_one_character_apart_and_reach_both_ends():
    tokens = torch.arange(6)
    drawn = list(islice(batches(tokens, size=4, length=3, seed=0), 50))
    for x, y in drawn:
        assert x.shape == y.shape == (4, 3)
        assert torch.equal(y, x + 1)
        assert torch.equal(x.diff(dim=1), torch.ones(4, 2, dtype=torch.int64))
    seen = torch.cat([x for x, _ in drawn]), torch.cat([y for _, y in drawn])
    assert seen[0].min() == 0
    assert seen[1].max() == 5


def test_batches__follow_their_seed():
    tokens = torch.arange(1000)
    first, again, other = (next(batches(tokens, size=8, length=4, seed=seed))[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
