"""What does ``wdyn live`` do?"""

from __future__ import annotations

import signal
import threading
import warnings
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click
from rich.console import Console
from rich.live import Live

from wdyn.cli import options
from wdyn.live.following import following
from wdyn.live.page import routes
from wdyn.live.serving import serving
from wdyn.live.terminal import farewell, screen
from wdyn.reports.report import Report

_REDRAW = 0.5  # seconds


@click.command("live")
@options.run
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Serve the page here.  [default: any free one]")
@click.option("--open", "in_browser", is_flag=True, help="Open the page in the browser.")
@click.option(
    "--every",
    type=click.FloatRange(min=0.1),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How often to look.",
)
@click.option("--terminal", is_flag=True, help="Show it here instead of in a browser.")
def command(run: Path, port: int, in_browser: bool, every: float, terminal: bool) -> None:
    """Show RUN while it is being recorded, the newest findings first; it need not exist yet.

    The page is served to this machine alone, at an address with a secret in it. The training takes no part in it: what
    was committed is read from the files, answers and figures come at low priority, each at a tenth of a processor.

    Ends with Ctrl-C.
    """
    if terminal and (in_browser or port):
        raise click.UsageError("--terminal shows no page, so it goes with neither --port nor --open.")
    # What an analyzer could not do stands in the report, and would stand here again after every look.
    warnings.simplefilter("ignore")
    with until_told_to_end() as end:
        if terminal:
            _in_terminal(run, every, end)
        else:
            _in_browser(run, every, end, port=port, opens=in_browser)


@contextmanager
def until_told_to_end() -> Iterator[threading.Event]:
    """Give an event that Ctrl-C, or being asked to terminate, sets: the way in which a live view ends."""
    end = threading.Event()

    def told(_: int, __: FrameType | None) -> None:
        end.set()

    before = {number: signal.signal(number, told) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield end
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _in_browser(run: Path, every: float, end: threading.Event, *, port: int, opens: bool) -> None:
    with (
        following(run, every=every, draw=Report.to_html) as found,
        serving(routes(lambda: found.view), port=port) as url,
    ):
        click.echo(f"Live at {url}\nCtrl-C ends it.")
        if opens and not webbrowser.open(url):
            click.echo("No browser could be opened.", err=True)
        end.wait()


def _in_terminal(run: Path, every: float, end: threading.Event) -> None:
    console = Console()
    if not console.is_terminal or console.is_dumb_terminal:
        raise click.UsageError(
            "--terminal needs a terminal that can be redrawn, and the output goes elsewhere. Leave it out for a page, "
            "or print the run once with: wdyn report RUN"
        )
    with following(run, every=every) as found:
        with Live(screen(found.view), console=console, screen=True, auto_refresh=False) as live:
            while not end.wait(_REDRAW):
                live.update(screen(found.view), refresh=True)
        click.echo(farewell(found.view))
