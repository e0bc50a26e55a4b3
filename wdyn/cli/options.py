"""Which arguments and options do several commands share?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from wdyn.findings import Severity
from wdyn.reports.files import FORMS

Command = TypeVar("Command", bound=Callable[..., Any])

run = click.argument("run", type=click.Path(path_type=Path))


def form(*choices: str, help: str) -> Callable[[Command], Command]:
    """Add ``--format``, with what a command can write."""
    return click.option("--format", "form", type=click.Choice(choices), help=help)


def to_file(command: Command) -> Command:
    """Add ``-o``, which reaches the command as ``to``, and ``--format``, as ``form``."""
    to = click.option(
        "-o",
        "--output",
        "to",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Write this file; its suffix chooses the format (.html .md .json .txt).",
    )
    return to(form(*FORMS, help="Print this format and write no file; with -o, the format of that file.")(command))


def codes(command: Command) -> Command:
    """Add ``--select`` and ``--ignore``."""
    select = click.option("--select", multiple=True, metavar="CODE", help="Keep these codes or families (INI) only.")
    ignore = click.option("--ignore", multiple=True, metavar="CODE", help="Leave these codes or families out.")
    return select(ignore(command))


def fail_on(command: Command) -> Command:
    """Add ``--fail-on``, which reaches the command as a severity, or as None for never."""
    option = click.option(
        "--fail-on",
        type=click.Choice([*(str(severity).lower() for severity in Severity), "never"]),
        default="error",
        show_default=True,
        callback=lambda ctx, parameter, value: None if value == "never" else Severity.parse(value),
        help="Exit with 1 when a finding is at least this bad.",
    )
    return option(command)
