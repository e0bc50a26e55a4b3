"""Does the report in Markdown render as it was meant?"""

import numpy as np
import pytest
import xarray as xr
from markdown_it import MarkdownIt

from wdyn.reports.report import analyze


@pytest.fixture
def tokens(report):
    return MarkdownIt("commonmark").enable("table").parse(report.to_markdown())


def test_markdown__has_a_heading_for_each_finding(tokens):
    headings = [tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "heading_open"]
    assert headings[:5] == ["run.zarr", "ERROR ONE002", "WARNING ONE003", "INFO ONE001", "The run run.zarr"]


def test_markdown__holds_no_html_link_or_image(tokens):
    inner = [child.type for token in tokens for child in token.children or ()]
    assert not {"html_block"} & {token.type for token in tokens}
    assert not {"html_inline", "link_open", "image", "em_open"} & set(inner)


def test_markdown__shows_the_hostile_name_in_the_finding(tokens, hostile):
    shown = ["".join(child.content for child in token.children) for token in tokens if token.type == "inline"]
    name = hostile.replace("\u202e", r"\u202e").replace("\x1b", r"\x1b")
    assert f"{name} moved." in shown
    assert f"What to do: {name}" in shown


def test_markdown__gives_the_line_that_reproduces_as_code(tokens):
    assert "wdyn.one(run).sel(parameter='wte.weight')\n" in [t.content for t in tokens if t.type == "fence"]


def test_markdown__keeps_its_tables_whole(report):
    rows = [line for line in report.to_markdown().splitlines() if line.startswith("|")]
    assert "| Is one well? | 1 error, 1 warning, 1 info |" in rows
    assert len([row for row in rows if "h.0" in row or "attn.c" in row]) == 2


def test_markdown__says_how_what_was_logged_went(run, one, hostile):
    named = xr.DataArray(np.full(601, 1.0), dims="step", attrs={"long_name": hostile})
    logged = run["scalars"].to_dataset().assign(loss=("step", np.linspace(4.0, 2.0, 601)), odd=named)
    run["scalars"] = logged
    text = analyze(run, [one]).to_markdown()
    line = next(line for line in text.splitlines() if "What was logged" in line)
    assert line.startswith("**What was logged:** loss 4 → 2  █")
    inner = [child.type for token in MarkdownIt("commonmark").parse(line) for child in token.children or ()]
    assert not {"html_inline", "link_open", "image", "em_open"} & set(inner)
