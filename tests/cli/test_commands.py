"""Does the command line start at once, and end with the right code?"""

import errno
import subprocess
import sys

import pytest

from wdyn.cli.commands import COMMANDS
from wdyn.errors import NotARun

HEAVY = {"torch", "zarr", "xarray", "seaborn", "matplotlib", "numpy", "rich", "jinja2", "pandas", "scipy"}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help__imports_nothing_heavy(arguments):
    code = f"""
import sys
sys.argv = ["wdyn", *{arguments!r}]
from wdyn.cli import main
try:
    main()
finally:
    heavy = {HEAVY!r} & set(sys.modules)
    assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


def test_help__names_every_command(wdyn):
    text = wdyn("--help").output
    assert all(f"  {name} " in text for name in COMMANDS)
    assert all(line in text for line in COMMANDS.values())


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command__explains_itself(wdyn, name):
    result = wdyn(name, "--help")
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: main {name}")


def test_version__is_that_of_the_package(wdyn):
    from wdyn._version import __version__

    assert wdyn("--version").output == f"wdyn, version {__version__}\n"


def test_unknown_command__names_the_closest(wdyn):
    result = wdyn("reprot", "run.zarr")
    assert result.exit_code == 2
    assert "No command 'reprot'. Closest: report." in result.output


@pytest.mark.parametrize("name", ["report", "info", "analyze"])
def test_no_run__is_one_message_and_exit_code_2(shell, tmp_path, name):
    (tmp_path / "folder").mkdir()
    result = shell(name, "folder")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: ")
    assert "folder" in result.stderr
    assert "Traceback" not in result.stderr


def raising(monkeypatch, error):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr("wdyn.cli.analyze.open_run", fail)


def test_errors__cannot_act_on_the_terminal(wdyn, monkeypatch):
    raising(monkeypatch, NotARun("no run at \x1b[31m\u202ex"))
    assert wdyn("analyze", "x").stderr == "Error: no run at \\x1b[31m\\u202ex\n"


def test_errors__of_the_system_are_one_message(wdyn, monkeypatch):
    raising(monkeypatch, PermissionError(errno.EACCES, "Permission denied", "run.zarr"))
    result = wdyn("analyze", "x")
    assert (result.exit_code, result.stderr) == (2, "Error: run.zarr: Permission denied\n")


def test_bugs__are_no_findings(wdyn, monkeypatch):
    raising(monkeypatch, ZeroDivisionError("by nothing"))
    result = wdyn("analyze", "x")
    assert result.exit_code == 2
    assert "ZeroDivisionError" in result.stderr
    assert "This is a bug, of wdyn or of a plug-in: by nothing" in result.stderr


def test_interrupt__has_the_code_of_an_interrupt(wdyn, monkeypatch):
    raising(monkeypatch, KeyboardInterrupt())
    assert wdyn("analyze", "x").exit_code == 130


def test_warnings__are_one_line(shell):
    odd = "lambda p: warnings.warn('odd \\x1b', RuntimeWarning) or 1/0"
    code = f"import warnings, wdyn.cli.analyze as a; a.open_run = {odd}"
    run = "from wdyn.cli import main; main(['analyze', 'x'])"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{run}"], capture_output=True, text=True, timeout=60)
    assert done.stderr.splitlines()[0] == "Warning: odd \\x1b"
