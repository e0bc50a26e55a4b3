"""Which commands are there, and what becomes of an error?

A command's module is imported when the command is called: ``wdyn --help`` reads the table below and nothing else.
"""

from __future__ import annotations

import importlib
import keyword
import sys
import traceback
import warnings
from typing import Any

import click

from wdyn._version import __version__
from wdyn.errors import WdynError

COMMANDS = {
    "report": "Say what happened in a run: to the terminal, and as a page.",
    "live": "Show a run while it is being recorded.",
    "info": "Say what a model, a checkpoint or a run is made of.",
    "compare": "Compare runs: their settings, curves and weights.",
    "diff": "Compare two models: weights, names, ties, dtypes.",
    "analyze": "Print the findings of a run, and nothing else.",
    "list": "List the questions that can be asked of a run.",
    "explain": "Explain the code of a finding.",
    "prune": "Delete the rows of a run that a later attempt superseded.",
    "verify": "Read a run back, or say whether two models are the same.",
    "repair": "Cut a damaged run back to what is whole.",
    "import": "Make a run of checkpoints that were saved before.",
    "export": "Write the weights of a step as a saved model.",
    "demo": "Train a small GPT, watched, and report on it.",
}
"""Each command, ``wdyn.cli.<command>``, and what it does; a word of Python's own has a ``_`` behind it there."""

COULD_NOT_RUN = 2
INTERRUPTED = 130


class Failure(click.ClickException):
    """What keeps a command from doing its work."""

    exit_code = COULD_NOT_RUN


class Commands(click.Group):
    """The group of all commands, each imported when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name all commands, in the order in which one meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        module = f"{cmd_name}_" if keyword.iskeyword(cmd_name) else cmd_name
        command: click.Command = importlib.import_module(f"wdyn.cli.{module}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command, or say which one may have been meant."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from wdyn.naming import closest

            near = ", ".join(closest(args[0], COMMANDS, 1) or COMMANDS)
            raise click.UsageError(f"No command '{args[0]}'. Closest: {near}. List them with: wdyn --help", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command. What keeps it from its work is one message and exit code 2, never 1: that means findings."""
        with warnings.catch_warnings():
            warnings.showwarning = _say
            try:
                return super().invoke(ctx)
            except WdynError as error:
                raise Failure(_printable(error)) from error
            except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
                raise
            except OSError as error:
                raise Failure(_printable(f"{error.filename or 'I/O'}: {error.strerror or error}")) from error
            except KeyboardInterrupt:
                ctx.exit(INTERRUPTED)
            except Exception as error:
                traceback.print_exc()
                raise Failure(f"This is a bug, of wdyn or of a plug-in: {_printable(error)}") from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="wdyn")
def main() -> None:
    """See what happens to a network's weights while it trains.

    Exit codes: 0 clean, 1 findings at or above --fail-on, 2 could not run.
    """
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal's encoding lacks is shown as an escape, not as a traceback.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _say(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    # What a library will change one day is news for whoever develops, not for whoever reads a report.
    if not issubclass(category, DeprecationWarning | FutureWarning):
        click.echo(f"Warning: {_printable(message)}", err=True)


def _printable(message: object) -> str:
    from wdyn.reports.escaping import visible

    return "\n".join(visible(line) for line in str(message).splitlines())
