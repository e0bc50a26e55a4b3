"""Is what the documents say still true: does each Python block run, does each command exist, does each link lead on?"""

import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from wdyn.cli import main


@pytest.fixture(autouse=True)
def _closed_figures():
    """Let no figure that a block drew stand for the tests that follow."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
EXPERIMENTS = {path.name.removeprefix("test_") for path in (ROOT / "tests" / "examples").glob("test_*.py")}
"""Examples that take minutes; tests of their own run them in a short form."""
SHELL = {"sh", "bash", "shell", "console"}

pytestmark = pytest.mark.filterwarnings("error")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path) -> list[tuple[str, str, int]]:
    """Give language, code and line of each fenced block."""
    text = path.read_text(encoding="utf-8")
    fences = re.finditer(r"^```(\w*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [(fence[1], fence[2], text.count("\n", 0, fence.start()) + 2) for fence in fences]


def shell_lines(path: Path) -> list[str]:
    code = "".join(text for language, text, _ in blocks(path) if language in SHELL)
    lines = (line.removeprefix("$ ").partition("#")[0].strip() for line in code.splitlines())
    return [line for line in lines if line]


def commands_in(path: Path, program: str) -> set[str]:
    """Give the word after `program` in each shell block and each piece of code in a sentence or table."""
    inline = re.findall(r"`([^`\n]+)`", path.read_text(encoding="utf-8"))
    words = [shlex.split(line, comments=True) for line in [*shell_lines(path), *inline] if line.startswith(program)]
    return {word[1] for word in words if len(word) > 1 and word[0] == program and not word[1].startswith("-")}


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_python_blocks__run_in_order(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for language, code, line in blocks(path):
        if language == "python":
            # Empty lines put the block where it stands, so that a traceback names the line of the document.
            exec(compile("\n" * (line - 1) + code, str(path), "exec"), namespace)


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_commands__are_known(path):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert commands_in(path, "make") <= targets
    assert commands_in(path, "wdyn") <= set(main.list_commands(None))


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links__lead_to_files(path):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8"))
    files = [link for link in links if not re.match(r"\w+:", link)]
    assert [link for link in files if not (path.parent / link).exists()] == []


def test_readme__begins_with_the_two_commands():
    assert shell_lines(ROOT / "README.md")[:2] == ["make demo", "make test"]


def test_readme__names_every_command():
    assert commands_in(ROOT / "README.md", "wdyn") == set(main.list_commands(None))


def test_readme__shows_how_to_wrap_a_loop():
    assert any(language == "python" and "wdyn.watch(" in code for language, code, _ in blocks(ROOT / "README.md"))


@pytest.mark.parametrize("path", [path for path in EXAMPLES if path.name not in EXPERIMENTS], ids=name_of)
def test_examples__run(path, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(path), str(tmp_path)])
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out.strip()
    assert any(tmp_path.iterdir())
