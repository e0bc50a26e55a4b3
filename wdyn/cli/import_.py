"""What does ``wdyn import`` do?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from wdyn.reports.escaping import visible
from wdyn.store.root import is_run, read_root

WHAT = ("weights", "moments", "displacement")


@click.command("import")
@click.argument("checkpoints", metavar="CHECKPOINTS...", nargs=-1, required=True)
@click.option("--to", required=True, type=click.Path(path_type=Path), metavar="RUN", help="Where the run goes.")
@click.option(
    "--step-pattern", metavar="REGEX", help=r"What finds the step in a file's name: 'step_(\d+)'. Default: see above."
)
@click.option("--revision", "revisions", multiple=True, metavar="NAME", help="Of a model on the hub; give several.")
@click.option("--key", metavar="NAME", help="Which model, where files hold several.")
@click.option("--base", metavar="MODEL", help="The model that PEFT adapters adapt, to see both together.")
@click.option(
    "--what",
    multiple=True,
    type=click.Choice(WHAT),
    default=WHAT[:2],
    show_default=True,
    help="What to measure; give several. Displacement is from the first checkpoint.",
)
def command(
    checkpoints: tuple[str, ...],
    to: Path,
    step_pattern: str | None,
    revisions: tuple[str, ...],
    key: str | None,
    base: str | None,
    what: tuple[str, ...],
) -> None:
    """Make a run of checkpoints that were saved before, and ask it what a recorded one is asked.

    Give a folder of checkpoints, several files or folders, or a name on the Hugging Face hub with --revision. The step
    of each is what its optimizer counted, else a field such as global_step or epoch, else the number in its name: the
    first of these that all have. Called again, it reads what has come since, or goes on where it was cut off.
    """
    from wdyn.checkpoints.importing import import_checkpoints  # torch is not needed for the help

    before = _attempts(to)
    with _bar() as progress:
        run = import_checkpoints(
            checkpoints,
            to=to,
            step_pattern=step_pattern,
            revisions=revisions,
            key=key,
            base=base,
            what=what,
            progress=progress,
        )
    steps = [int(step) for step in run["states"].to_dataset()["step"].values]
    attempts = _attempts(to)
    click.echo("\n".join([_told(to, steps, attempts), *(["Nothing was new."] if attempts == before else [])]))
    click.echo(f"Next: wdyn report {visible(to)}")


def _attempts(place: Path) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = read_root(place).attributes["attempts"] if is_run(place) else ()
    return found


def _told(to: Path, steps: Sequence[int], attempts: Sequence[Mapping[str, Any]]) -> str:
    """Say what the run holds, and what told the steps."""
    said = {one["step"]: one["step_from"] for attempt in attempts for one in attempt["imported"]}
    sources = ", ".join(dict.fromkeys(said[step] for step in steps))
    span = f"steps {steps[0]} to {steps[-1]}" if len(steps) > 1 else f"step {steps[0]}"
    count = f"{len(steps)} checkpoints" if len(steps) > 1 else "1 checkpoint"
    return f"{visible(to)} holds {count}, {span}, as told by {visible(sources)}."


@contextmanager
def _bar() -> Iterator[Callable[[str, int, int], None]]:
    """Show on standard error how far the import is; nothing where that is no terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda words, done, total: bar.update(task, description=words, completed=done, total=total)
