"""What does ``wdyn compare`` do?"""

from __future__ import annotations

from itertools import count
from pathlib import Path

import click

from wdyn.analysis.compare_runs import compare_runs
from wdyn.cli import options, output
from wdyn.errors import InvalidArgument
from wdyn.findings import Severity
from wdyn.reading.joining import join_runs
from wdyn.reports import files
from wdyn.reports.escaping import visible
from wdyn.reports.report import analyze
from wdyn.reports.text import render
from wdyn.store.reader import open_run


@click.command("compare")
@click.argument("runs", metavar="RUN RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--on", default="step", show_default=True, metavar="step|lr|NAME", help="What to align the curves on.")
@click.option("--metric", default="loss", show_default=True, metavar="NAME", help="What to rank by, the lowest first.")
@options.to_file
@options.codes
@options.fail_on
def command(
    runs: tuple[Path, ...],
    on: str,
    metric: str,
    to: Path | None,
    form: str | None,
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    fail_on: Severity | None,
) -> None:
    """Compare several runs: settings, what was logged, and how far the weights of each went.

    Curves are aligned on the step, on the learning rate summed up so far (lr), or on a logged number that never falls,
    such as tokens. Runs are named by their folders; those of one name are numbered in the order given.

    Exit codes: 0 clean, 1 findings at or above --fail-on, 2 could not run.
    """
    if len(runs) < 2:
        raise click.UsageError("A comparison needs two runs or more.")
    form = form or (files.form_of(to) if to else None)
    with output.stages(3) as begin:
        begin("Opening the runs")
        joined = join_runs(**{label: open_run(path) for label, path in labelled(runs).items()})
        begin("Comparing")
        found = analyze(
            joined, [compare_runs.given(on=on, metric=metric)], select=select, ignore=ignore, draw=form == "html"
        )
        begin("Drawing")
        content = files.rendered(found, form) if form else ""
    for answer in found.answers:
        if answer.skipped:
            raise InvalidArgument(f"These runs cannot be compared: {answer.skipped}. To do: {answer.remedy}")
    if form and form != "text" and not to:
        click.echo(content, nl=not content.endswith("\n"))
    else:
        output.show(render(found))
    if to:
        files.write(content, to=to)
        click.echo(f"\nWrote {visible(to)}", err=True)
    output.leave(found, fail_on)


def labelled(paths: tuple[Path, ...]) -> dict[str, Path]:
    """Name each run by its folder, without ``.zarr``; several of one name are numbered: ``run 1``, ``run 2``."""
    names = [path.absolute().name.removesuffix(".zarr") or "run" for path in paths]
    taken = {name for name in names if names.count(name) == 1}
    found: dict[str, Path] = {}
    for name, path in zip(names, paths, strict=True):
        free = (f"{name} {number}" for number in count(1))
        label = name if name in taken else next(one for one in free if one not in taken and one not in found)
        found[label] = path
    return found
