"""Can one look up what is asked and what a code means?"""

import pytest

from wdyn.errors import UnknownName
from wdyn.reports.catalogue import catalogue, explanation
from wdyn.reports.text import plain


def test_catalogue__lists_questions_and_codes(one, absent):
    text = plain(catalogue([one, absent]))
    assert text.index("Is one well?") < text.index("ONE002  It moved.") < text.index("Is it there?")


def test_explanation__is_of_one_code(one, absent):
    text = plain(explanation([one, absent], "one002"))
    assert "ONE002  It moved." in text
    assert "ONE003" not in text
    assert "Is it there?" not in text


def test_explanation__is_of_a_family(one, absent):
    assert plain(explanation([one, absent], "ONE")).count("ONE00") == 3


def test_explanation__tells_of_a_built_in_code_all_that_there_is_to_know():
    from wdyn.analysis.initialization import init_audit

    text = plain(explanation([init_audit], "INI002"))
    headings = ["What it means  ", "When           ", "Usual causes   ", "What to do     "]
    assert [words for words in headings if f"  {words}" in text] == headings
    assert "is above 4:" in text


def test_explanation__names_three_codes_that_are_close(one):
    with pytest.raises(UnknownName, match=r"Closest: (ONE\w*, ){2}ONE\w*\. "):
        explanation([one], "ONE009")


@pytest.mark.parametrize("code", ["", "XYZ"])
def test_explanation__names_the_families_when_no_code_is_close(one, absent, code):
    with pytest.raises(UnknownName, match=r"'\. Families: ONE, ABS\. List"):
        explanation([one, absent], code)
