"""What does a person see: on the terminal, and while waiting?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn

from wdyn.findings import Severity
from wdyn.reports.text import plain

if TYPE_CHECKING:
    from wdyn.reports.report import Report


def show(content: RenderableType) -> None:
    """Print to the terminal, or, where the output goes elsewhere, as plain text with whole lines."""
    console = Console()
    if console.is_terminal:
        console.print(content)
    else:
        click.echo(plain(content), nl=False)


@contextmanager
def stages(count: int) -> Iterator[Callable[[str], None]]:
    """Show a bar on standard error while something takes its time; nothing where that is no terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=count)
        yield lambda words: bar.update(task, description=words, advance=1)


@contextmanager
def questions() -> Iterator[Callable[[int, int, str], None]]:
    """Show a bar on standard error that is told which question begins, of how many; nothing where it is no terminal."""
    console = Console(stderr=True)
    columns = (BarColumn(20), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("Opening the run", total=None)

        def begin(number: int, count: int, question: str) -> None:
            bar.update(task, completed=number - 1, total=count, description=f"{number} of {count}: {question}")

        yield begin


@contextmanager
def counting(words: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on standard error that is told how much of how much is done; nothing where that is no terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(words, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def leave(report: Report, fail_on: Severity | None) -> None:
    """End with exit code 1 if the worst finding is bad enough."""
    if fail_on is not None and report.worst is not None and report.worst >= fail_on:
        click.get_current_context().exit(1)
