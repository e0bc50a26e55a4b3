"""Is the page whole, quiet, and safe to open?"""

import base64
import hashlib
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from wdyn.reports.page import fragment, page
from wdyn.reports.report import analyze


class Page(HTMLParser):
    """Every element of a page, and the text that it shows."""

    void = frozenset({"meta", "img", "br", "link", "input", "hr"})

    def __init__(self, source):
        super().__init__()
        self.elements, self.text, self.open, self.style, self.script, self.data = [], "", [], "", "", []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "style":
            self.style += data
        elif self.open and self.open[-1] == "script":
            if self.elements[-1][1].get("type") == "application/json":
                self.data.append(data)
            else:
                self.script += data
        else:
            self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def parsed(report):
    return Page(page(report))


def test_page__closes_what_it_opens(parsed):
    assert parsed.open == []


def test_page__loads_nothing_and_names_no_code_in_its_elements(parsed):
    assert not {"link", "iframe", "object", "embed", "form", "svg", "base"} & {t for t, _ in parsed.elements}
    assert [a for a in parsed.all("script") if a.get("type") != "application/json"] == [{}]
    for _, attributes in parsed.elements:
        assert not [name for name in attributes if name.startswith("on") or name in {"style", "srcset"}]
        assert attributes.get("src", "data:").startswith("data:")
        assert attributes.get("href", "#").startswith("#")
    assert "url(" not in parsed.style
    assert "@import" not in parsed.style


def test_page__forbids_what_it_does_not_need(parsed):
    (policy,) = [m["content"] for m in parsed.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    of_style, of_script = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (parsed.style, parsed.script)
    )
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert f"style-src 'sha256-{of_style}';" in policy
    assert f"script-src 'sha256-{of_script}';" in policy
    assert "unsafe" not in policy


def test_page__shows_hostile_names_as_text(parsed, report, hostile):
    assert r"<img src=x onerror=alert(1)>[bold red]x[/]\u202eevil\x1b[31m" in parsed.text
    assert len(parsed.all("img")) == 2  # that of the answer, and again at its first serious finding
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x1b]", report.to_html())


def test_page__tells_each_figure_in_words(parsed):
    _, image = parsed.all("img")
    assert image["alt"].startswith("All is <img src=x")
    assert image["alt"].endswith("qkv. o (axes: step, std)")


def test_page__says_findings_then_the_run_then_the_answers_then_what_is_missing(parsed):
    places = [parsed.text.index(words) for words in ("wte.weight is wide.", "1.5 kB", "Is one well?", "Is it there?")]
    assert places == sorted(places)
    assert parsed.text.index("moved.") < places[0] < parsed.text.index("All is as it should be.")


def test_page__titles_each_answer_with_it_and_leaves_the_question_below(parsed):
    answer = parsed.text.index("All is <img src=x onerror")
    assert answer < parsed.text.index("Is one well? 1 error, 1 warning, 1 info (ONE001, ONE003, ONE002).")


def test_page__leads_from_each_finding_to_its_answer(parsed):
    (place,) = {attributes["href"] for attributes in parsed.all("a")}
    assert place.removeprefix("#") in [attributes.get("id") for _, attributes in parsed.elements]
    assert len(parsed.all("a")) == 3


def test_page__gives_the_reason_and_the_remedy_of_what_was_skipped(parsed):
    assert 'no updates were recorded→ wdyn.watch(..., what=("updates",))' in parsed.text


def test_page__shows_at_the_card_how_what_was_logged_went(run, one):
    run["scalars"] = run["scalars"].to_dataset().assign(loss=("step", np.linspace(4.0, 2.0, 601)))
    parsed = Page(page(analyze(run, [one])))
    assert parsed.all("img")[1]["alt"].startswith("loss fell from 4 to 2")
    assert "What was logged: loss fell from 4 to 2" in parsed.text
    assert parsed.text.index("1.5 kB") < parsed.text.index("What was logged") < parsed.text.index("Is one well?")


def test_page__says_why_the_curves_cannot_be_drawn(run, one, monkeypatch):
    run["scalars"] = run["scalars"].to_dataset().assign(loss=("step", np.linspace(4.0, 2.0, 601)))

    def fail(scalars):
        raise ValueError("no ink")

    monkeypatch.setattr("wdyn.reports.page.plot", fail)
    assert "No figure: ValueError: no ink" in Page(page(analyze(run, [one]))).text


def test_page__lets_one_reach_each_figure_with_the_keyboard_to_scroll_it(parsed):
    assert [figure["tabindex"] for figure in parsed.all("figure")] == ["0", "0"]


def test_page__bounds_its_tables(report, monkeypatch):
    monkeypatch.setattr("wdyn.reports.sections._ROWS", 40)
    parsed = Page(page(report))
    assert "For each parameter, the first 40 of 124 rows" in parsed.text
    assert len(parsed.all("tr")) < 150


def test_page__has_unique_ids_that_its_labels_name(parsed):
    ids = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    labels = [a["aria-labelledby"] for _, a in parsed.elements if "aria-labelledby" in a]
    assert len(ids) == len(set(ids))
    assert set(labels) <= set(ids)


def test_page__survives_a_figure_that_cannot_be_drawn(report, monkeypatch):
    def fail(result):
        raise ValueError("no <ink>")

    monkeypatch.setattr("wdyn.reports.figures.plot", fail)
    parsed = Page(page(report))
    assert "No figure: ValueError: no <ink>" in parsed.text
    assert "planted" in parsed.text


def test_page__of_the_same_run_has_the_same_bytes(report):
    assert page(report) == page(report)


def test_fragment__is_the_same_without_a_page_around_it(report):
    source = fragment(report)
    parsed = Page(source)
    assert not {"html", "body", "head", "meta", "script"} & {tag for tag, _ in parsed.elements}
    assert "wte.weight is wide." in parsed.text
    assert report._repr_html_() == source


def test_style__reaches_nothing_outside_the_report(parsed):
    rules = re.sub(r"/\*.*?\*/|@media[^{]+\{", "", parsed.style, flags=re.S)
    selectors = [s.strip() for rule in re.findall(r"([^{}]+)\{", rules) for s in rule.split(",")]
    assert [s for s in selectors if not s.startswith((".wdyn", "body:has(> .wdyn)"))] == []


def _rule(style, selector):
    return re.search(rf"^{re.escape(selector)} \{{([^}}]*)\}}", style, flags=re.M)[1]


def test_style__lets_a_figure_scroll_in_its_card_where_it_would_be_too_small_to_read(parsed):
    assert "overflow-x: auto" in _rule(parsed.style, ".wdyn figure")
    assert "max-width: min(100%, 57rem)" in _rule(parsed.style, ".wdyn figure")
    assert "min-width: 35rem" in _rule(parsed.style, ".wdyn .wdyn-plot")


def test_style__turns_white_into_the_paper_at_night_and_keeps_hues(parsed):
    share = float(re.search(r"filter: invert\(([.\d]+)\) hue-rotate\(180deg\)", parsed.style)[1])
    light, dark = re.findall(r"--paper: (#\w+)", parsed.style)
    assert light == "#fff"
    assert dark == "#" + 3 * f"{round(255 * (1 - share)):02x}"


def _luminance(colour):
    digits = colour.lstrip("#")
    digits = "".join(2 * d for d in digits) if len(digits) == 3 else digits
    channels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("ink", ["ink", "muted", "accent", "error", "warning", "info"])
@pytest.mark.parametrize("ground", ["ground", "card"])
def test_style__has_enough_contrast_to_read(parsed, scheme, ink, ground):
    colours = {name: re.findall(rf"--{name}: (#\w+)", parsed.style)[scheme] for name in (ink, ground)}
    darker, lighter = sorted(map(_luminance, colours.values()))
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5
