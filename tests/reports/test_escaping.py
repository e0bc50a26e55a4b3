"""Does text from outside stay text?"""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from wdyn.reports.escaping import code_block, markdown, visible


@given(st.text(st.characters()))
def test_visible__leaves_nothing_that_hides_or_turns_text(text):
    shown = visible(text)
    assert not [c for c in shown if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}]
    assert shown.isprintable()


@given(st.text(st.characters(categories=("L", "N", "P", "S"))))
def test_visible__leaves_printable_text_alone(text):
    assert visible(text) == text


def test_visible__names_what_it_escapes():
    assert visible("a\nb\x1b[31m\u202e") == r"a\nb\x1b[31m\u202e"


@pytest.mark.parametrize(
    "text",
    [
        "**bold** _it_ `code` ~~no~~",
        "<script>alert(1)</script>",
        "[x](javascript:alert(1))",
        "![x](http://evil.example/a.png)",
        "<http://evil.example>",
        "a&lt;b &amp; c",
        "\\*not\\*",
        "h.0.attn.c_attn.weight",
    ],
)
def test_markdown__shows_the_very_text(text):
    tokens = MarkdownIt("commonmark").parseInline(markdown(text))[0].children
    assert {token.type for token in tokens} <= {"text", "text_special"}
    assert "".join(token.content for token in tokens) == text


def test_markdown__breaks_bare_addresses():
    assert "://" not in markdown("see http://evil.example now")


@given(st.text(st.sampled_from("`a \n<")))
def test_code_block__is_one_block_and_nothing_after_it(text):
    tokens = MarkdownIt("commonmark").parse(f"{code_block(text)}\n\nafter")
    assert [token.type for token in tokens] == ["fence", "paragraph_open", "inline", "paragraph_close"]
    assert tokens[0].content == f"{visible(text)}\n"
