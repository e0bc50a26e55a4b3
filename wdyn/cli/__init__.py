"""What can be asked from a shell? One file a command; `main` is the entry point."""

from wdyn.cli.commands import main

__all__ = ["main"]
