"""What does ``wdyn export`` do?"""

from __future__ import annotations

from pathlib import Path

import click

from wdyn.cli import options
from wdyn.naming import examples
from wdyn.reports.escaping import visible
from wdyn.reports.summary import size


@click.command("export")
@options.run
@click.option("--step", type=int, metavar="N", help="A step with a snapshot.  [default: the last one]")
@click.option(
    "--to",
    required=True,
    type=click.Path(path_type=Path),
    metavar="PLACE",
    help="model.safetensors, state.pt (.pth, .bin), or a folder for from_pretrained.",
)
@click.option("--config", metavar="FOLDER|NAME", help="Whose config.json a folder gets.  [default: that of the run]")
@click.option("--force", is_flag=True, help="Replace what an export left there before.")
@click.option("--partial", is_flag=True, help="Export what there is, where not all weights were recorded.")
def command(run: Path, step: int | None, to: Path, config: str | None, force: bool, partial: bool) -> None:
    """Write the weights of RUN at a step as a saved model that other programs read, bit for bit."""
    from wdyn.checkpoints.exporting import export  # torch takes its time
    from wdyn.store.reader import open_run

    done = export(open_run(run), step=step, to=to, config=config, overwrite=force, partial=partial)
    which = f"step {done.step}" if step is not None else f"step {done.step}, the last snapshot,"
    lines = [f"Wrote {done.path}: {done.names} weights of {which} in {size(done.nbytes)}"]
    if done.tied:
        lines.append(f"Tied: {examples(f'{name} with {holder}' for name, holder in done.tied.items())}")
    lines += [f"Note: {note}" for note in done.notes]
    click.echo("\n".join(map(visible, lines)))
