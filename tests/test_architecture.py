"""Does the code keep the layout: which stage knows which libraries, arrows down only, small files, a light import?"""

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pytest

import wdyn

PACKAGE = Path(wdyn.__file__).parent
PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LINES_OF_A_MODULE = 400
LINES_OF_A_FUNCTION = 50


@dataclass(frozen=True)
class Stage:
    """What the files of one stage may import: libraries from outside, and other stages."""

    libraries: str = ""
    stages: str = ""


WORDS = "schema naming errors findings rows arrays bins _version"
JUDGING = "reading analysis plots"
STAGES = {
    # Words everyone shares.
    "_version": Stage(),
    "schema": Stage(),
    "errors": Stage(),
    "naming": Stage(),
    "findings": Stage("xarray"),
    "arrays": Stage("", "schema naming"),
    "bins": Stage("numpy"),
    "rows": Stage("numpy", "schema arrays"),
    # The line from a model to a report; each stage knows earlier ones only.
    "capture": Stage("torch numba numpy xarray", WORDS),
    "store": Stage("zarr numcodecs numpy xarray dask ml_dtypes google_crc32c", WORDS),
    "reading": Stage("numpy xarray dask", f"{WORDS} store"),
    "analysis": Stage("numpy scipy xarray", f"{WORDS} reading"),
    "plots": Stage("seaborn matplotlib numpy pandas xarray", f"{WORDS} reading analysis"),
    "reports": Stage("rich jinja2 markupsafe matplotlib numpy xarray", f"{WORDS} store reading analysis plots"),
    "live": Stage("rich jinja2 numpy xarray", f"{WORDS} store reading analysis plots reports"),
    # Where the line meets the world.
    "telling": Stage("", WORDS),
    "holding": Stage("torch", f"{WORDS} capture store"),
    "beginning": Stage("torch", f"{WORDS} capture store holding"),
    "standing_by": Stage("torch", f"{WORDS} capture"),
    "guarding": Stage("", f"{WORDS} capture"),
    "recording": Stage("torch", f"{WORDS} capture store telling beginning guarding"),
    "handle": Stage("torch", f"{WORDS} capture recording standing_by"),
    "watching": Stage("torch", f"{WORDS} capture store handle"),
    "checkpoints": Stage(
        "torch transformers huggingface_hub safetensors numpy xarray ml_dtypes",
        f"{WORDS} capture store reading telling",
    ),
    "comparing": Stage("xarray", f"{WORDS} store checkpoints analysis reports"),
    "integrations": Stage("torch transformers lightning pytorch_lightning", f"{WORDS} capture handle watching"),
    "demo": Stage("torch rich", "__init__"),
    "testing": Stage("numpy xarray", f"{WORDS} capture store reading"),
    "cli": Stage("click rich", f"{WORDS} store {JUDGING} reports live checkpoints comparing watching demo"),
    # The doors: names that are found when they are asked for.
    "__init__": Stage("", f"{WORDS} capture store {JUDGING} reports handle watching checkpoints comparing testing"),
    "__main__": Stage("", "cli"),
}


@dataclass(frozen=True)
class Import:
    """One imported module, and where that is written."""

    module: str
    line: int


def sources() -> list[Path]:
    return sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def stage_of(path: Path) -> str:
    return path.parts[0].removesuffix(".py")


def syntax(path: Path) -> ast.Module:
    return ast.parse((PACKAGE / path).read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[Import]:
    """Give each module that a file imports, wherever the import stands."""
    for node in ast.walk(syntax(path)):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively; write the whole name"
            for alias in node.names:
                yield Import(f"wdyn.{alias.name}" if node.module == "wdyn" else str(node.module), node.lineno)


def unwelcome(path: Path) -> Iterator[str]:
    """Give each import that the stage of a file may not have."""
    stage = STAGES[stage_of(path)]
    for found in imports(path):
        top, _, rest = found.module.partition(".")
        if top == "wdyn":
            target = rest.partition(".")[0] or "__init__"
            allowed = target in {stage_of(path), *stage.stages.split()}
        else:
            allowed = top in sys.stdlib_module_names or top in stage.libraries.split()
        if not allowed:
            yield f"wdyn/{path}:{found.line} imports {found.module}"


def modules_after(code: str) -> set[str]:
    """Run code in a fresh Python; give the top-level names of all modules that it left imported."""
    code = f"{code}\nimport sys; print('\\nLOADED', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in done.stdout.rpartition("LOADED")[2].split()}


@pytest.mark.parametrize("path", sources(), ids=str)
def test_file__imports_only_what_its_stage_may(path: Path) -> None:
    assert stage_of(path) in STAGES, f"wdyn/{path} belongs to no stage; the stages are {', '.join(STAGES)}"
    assert list(unwelcome(path)) == []


@pytest.mark.parametrize("path", sources(), ids=str)
def test_file__is_small_and_says_what_it_answers(path: Path) -> None:
    text = (PACKAGE / path).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LINES_OF_A_MODULE
    assert ast.get_docstring(syntax(path)), f"wdyn/{path} has no docstring"


@pytest.mark.parametrize("path", sources(), ids=str)
def test_file__has_no_long_function(path: Path) -> None:
    long = []
    for node in ast.walk(syntax(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            if lines > LINES_OF_A_FUNCTION:
                long.append(f"{node.name}: {lines} lines")
    assert long == []


def test_stages__form_no_circle() -> None:
    below = {name: set(stage.stages.split()) for name, stage in STAGES.items()}
    done: set[str] = set()
    while ready := {name for name in below if name not in done and below[name] - {name} <= done}:
        done |= ready
    assert done == set(below)


def test_libraries__are_dependencies() -> None:
    used = {library for stage in STAGES.values() for library in stage.libraries.split()}
    declared = [*PROJECT["dependencies"], *chain(*PROJECT["optional-dependencies"].values())]
    needed = {re.split(r"[\[<>=]", line)[0].replace("-", "_") for line in declared}
    assert used - needed - {"lightning"} == set()  # pytorch_lightning under its other name


def test_public_names__are_there_and_hide_no_module() -> None:
    modules = {module.name for module in pkgutil.iter_modules(wdyn.__path__)}
    names = set(wdyn.__all__)
    assert names
    assert names & modules == set()
    assert [name for name in sorted(names) if not hasattr(wdyn, name)] == []
    assert names <= set(dir(wdyn))


def test_public_names__are_the_same_for_type_checkers() -> None:
    listed = {
        alias.name: str(node.module)
        for node in ast.walk(syntax(Path("__init__.py")))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("wdyn")
        for alias in node.names
    }
    assert set(listed) == set(wdyn.__all__)
    for name, module in listed.items():
        assert getattr(wdyn, name) is getattr(importlib.import_module(module), name)


def test_import__loads_nothing_heavy() -> None:
    heavy = {"torch", "zarr", "xarray", "seaborn", "numpy", "matplotlib", "transformers", "dask", "pandas", "scipy"}
    assert modules_after("import wdyn") & heavy == set()


def test_help__loads_nothing_heavy() -> None:
    code = (
        "import sys, wdyn.cli\n"
        "sys.argv = ['wdyn', '--help']\n"
        "try: wdyn.cli.main()\n"
        "except SystemExit as stop: assert stop.code == 0"
    )
    loaded = modules_after(code)
    assert "click" in loaded
    assert loaded & {"torch", "zarr", "xarray", "seaborn", "numpy", "matplotlib", "transformers"} == set()


def test_analysis__reaches_no_disk_and_no_torch() -> None:
    # What it imports by way of other stages counts too.
    import wdyn.analysis

    names = [f"wdyn.analysis.{module.name}" for module in pkgutil.iter_modules(wdyn.analysis.__path__)]
    loaded = modules_after(f"import {', '.join(names)}")
    assert "xarray" in loaded
    assert loaded & {"torch", "zarr", "seaborn", "matplotlib", "click", "rich"} == set()


def test_entry_point__is_the_command() -> None:
    module, _, name = PROJECT["scripts"]["wdyn"].partition(":")
    assert getattr(importlib.import_module(module), name).name == "main"
