"""What do the tests of the anatomy share? The layouts, loaded when a test first asks for one."""

import importlib.util
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from torch import nn


@pytest.fixture(scope="session")
def layouts() -> ModuleType:
    """The module beside this file that builds the models and reads the table of expectations."""
    spec = importlib.util.spec_from_file_location("anatomy_layouts", Path(__file__).with_name("layouts.py"))
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded  # dataclasses look their module up
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="session")
def build(layouts) -> Callable[[str], nn.Module]:
    """Build a layout by name (one to share, or a fresh one); what other libraries warn of while building is theirs."""
    made: dict[str, nn.Module] = {}

    def build(name: str, *, fresh: bool = False) -> nn.Module:
        if not fresh and name in made:
            return made[name]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = layouts.BUILDERS[name]()
        return model if fresh else made.setdefault(name, model)

    return build


@pytest.fixture(scope="session")
def expected(layouts) -> dict[str, object]:
    """The table of expectations, by layout."""
    return layouts.expectations()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes `every_layout` once for each layout of the table."""
    if "every_layout" in metafunc.fixturenames:
        lines = Path(__file__).with_name("layouts.txt").read_text().splitlines()
        metafunc.parametrize("every_layout", [line[1:].split("]")[0] for line in lines if line.startswith("[")])
