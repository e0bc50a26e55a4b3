"""What does ``wdyn diff`` do?"""

from __future__ import annotations

from pathlib import Path

import click

from wdyn.analysis.likeness import Extent
from wdyn.cli import options, output
from wdyn.comparing.differing import diff
from wdyn.reports import files
from wdyn.reports.difference import render
from wdyn.reports.escaping import visible

_LEVELS = {"cast": Extent.CAST, "changed": Extent.CHANGED, "missing": Extent.MISSING, "unrelated": Extent.UNRELATED}
_LEVELS |= {"nonfinite": Extent.NONFINITE}


@click.command("diff")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--key", "keys", multiple=True, metavar="NAME", help="Which model, where files hold several; give two.")
@click.option("--base", metavar="MODEL", help="The model that PEFT adapters adapt, to compare them merged into it.")
@click.option(
    "--spectra/--no-spectra", default=True, show_default=True, help="Find the rank of each change; takes time."
)
@options.to_file
@click.option(
    "--fail-on",
    type=click.Choice([*_LEVELS, "never"]),
    default="nonfinite",
    show_default=True,
    help="Exit with 1 when they differ at least so far; see above.",
)
def command(
    a: str,
    b: str,
    keys: tuple[str, ...],
    base: str | None,
    spectra: bool,
    to: Path | None,
    form: str | None,
    fail_on: str,
) -> None:
    """Compare two models: what is missing, renamed or tied otherwise, and how far each weight went from A to B.

    A and B are each a run at a step (run.zarr@500; without a step its last snapshot), a file, a folder, or a name on
    the Hugging Face hub (name@revision).

    --fail-on, each worse than the one before: cast (values were rounded to another dtype), changed (values changed),
    missing (a name is missing, new, renamed, of another shape or tied otherwise), unrelated, nonfinite (B has NaN or
    infinities where A has none).

    Exit codes: 0 clean, 1 they differ at least as far as --fail-on says, 2 could not run.
    """
    if len(keys) > 2:
        raise click.UsageError("Two models have at most two keys.")
    form = form or (files.form_of(to) if to else None)
    first, second = (*keys, *keys)[:2] if keys else (None, None)
    with output.counting("Comparing") as progress:
        found = diff(a, b, keys=(first, second), base=base, spectra=spectra, progress=progress)
    content = files.rendered(found, form) if form else ""
    if form and form != "text" and not to:
        click.echo(content, nl=not content.endswith("\n"))
    else:
        output.show(render(found))
    if to:
        files.write(content, to=to)
        click.echo(f"\nWrote {visible(to)}", err=True)
    if fail_on != "never" and found.verdict.extent >= _LEVELS[fail_on]:
        click.get_current_context().exit(1)
