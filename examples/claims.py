"""What is said of training, and did it hold? The experiments beside this file share it."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """What is said, whether it was measured to hold, and the numbers.

    `known` is how it came out before; None where it may come out either way.
    """

    text: str
    held: bool
    numbers: str
    known: bool | None = True


def tell(claims: Iterable[Claim]) -> None:
    """Print each claim with its numbers, those that do not hold too."""
    for one in claims:
        print(f"{'held    ' if one.held else 'NOT held'} | {one.text} | {one.numbers}")


def check(claims: Iterable[Claim]) -> None:
    """Refuse claims that came out otherwise than they are known to."""
    for one in claims:
        assert one.known in (one.held, None), f"{one.text}: held is {one.held}, known was {one.known} ({one.numbers})"
