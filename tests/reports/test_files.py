"""Does a report go where one looks for it, in the form that its name says?"""

from pathlib import Path

import pytest

from wdyn.errors import InvalidArgument
from wdyn.reports.files import FORMS, beside, form_of, rendered, write


@pytest.mark.parametrize(
    ("run", "page"),
    [("run.zarr", "run.html"), ("run.zarr/", "run.html"), ("a.b/lr0.1", "lr0.1.html"), ("run", "run.html")],
)
def test_beside__puts_the_page_next_to_the_run(run, page):
    run = Path(run)
    assert beside(run) == run.absolute().parent / page


@pytest.mark.parametrize(
    ("name", "form"),
    [("a.html", "html"), ("a.HTM", "html"), ("a.md", "markdown"), ("a.json", "json"), ("a.txt", "text")],
)
def test_form_of__reads_the_suffix(name, form):
    assert form_of(Path(name)) == form


@pytest.mark.parametrize("name", ["report", "report.pdf", ".html"])
def test_form_of__refuses_a_suffix_that_says_nothing(name):
    with pytest.raises(InvalidArgument, match=r"\.html, \.htm, \.md"):
        form_of(Path(name))


def test_rendered__knows_every_form(report):
    assert len({rendered(report, form) for form in FORMS}) == 4


def test_write__is_utf8_with_plain_line_feeds(tmp_path):
    write("a → b\n", to=tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_bytes() == "a → b\n".encode()
