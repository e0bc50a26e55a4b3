"""What does the demo learn from? The English text that every Python carries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pydoc_data.topics import topics

import torch
from torch import Tensor


@dataclass(frozen=True)
class Corpus:
    """A text as numbers: one for each character, in the order of `alphabet`."""

    tokens: Tensor
    alphabet: str

    def decode(self, tokens: Tensor) -> str:
        """Write tokens as text again."""
        return "".join(self.alphabet[token] for token in tokens.tolist())


def corpus(text: str | None = None) -> Corpus:
    """Read `text`, by default the manual pages behind ``help("topics")``: about 460,000 characters."""
    if text is None:
        text = "\n\n".join(page for _, page in sorted(topics.items()))
    alphabet = "".join(sorted(set(text)))
    number = {character: token for token, character in enumerate(alphabet)}
    return Corpus(torch.tensor([number[character] for character in text]), alphabet)


def batches(tokens: Tensor, *, size: int, length: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Draw pieces of the text at random, for ever.

    Yields
    ------
    tuple of Tensor
        What the model reads and what it is to say, both (size, length): the second is one character ahead.
    """
    generator = torch.Generator().manual_seed(seed)
    window = torch.arange(length + 1)
    while True:
        starts = torch.randint(len(tokens) - length, (size, 1), generator=generator)
        piece = tokens[starts + window]
        yield piece[:, :-1], piece[:, 1:]
