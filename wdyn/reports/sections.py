"""What does a page say of the answer to one question? The words, the figure, and the numbers behind it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from markupsafe import Markup

from wdyn.analysis.machinery import Answer
from wdyn.reports.figures import Picture, pictures
from wdyn.reports.html import drawn
from wdyn.reports.numbers import Table, tables
from wdyn.reports.pointing import embedded, shapes_of

_ROWS = 160
"""Of a table on the page: all parameters of a model like GPT-2 small."""


@dataclass(frozen=True)
class Section:
    """What the page says of one analyzer.

    Attributes
    ----------
    number
        Its place on the page.
    title
        The answer in words; the question where nobody put it into words.
    answer
        What it found.
    pictures
        Its figure, or one for each of several joined runs.
    failure
        Why there is none.
    tables
        The numbers behind it.
    shapes
        Distributions to go through by step, for the script; "" where there are none.
    """

    number: int
    title: str
    answer: Answer
    pictures: tuple[Picture, ...]
    failure: str
    tables: tuple[Table, ...]
    shapes: Markup | str


def sections(answers: Iterable[Answer]) -> Iterator[Section]:
    """Write what a page says of each answer; nothing of those that were skipped."""
    for number, answer in enumerate(answers, 1):
        if not answer.skipped:
            yield section(number, answer)


def section(number: int, answer: Answer) -> Section:
    """Write what a page says of an answer that was not skipped."""
    result = answer.result  # once: it may be measured anew
    drawings, failure = drawn(lambda: pictures(result))
    answers = [picture.answer for picture in drawings]
    title = answers[0] if len(answers) == 1 and answers[0] else answer.analyzer.question
    shapes = shapes_of(result)
    numbers = tables(result, limit=_ROWS)
    return Section(number, title, answer, drawings, failure, numbers, embedded(shapes) if shapes else "")
