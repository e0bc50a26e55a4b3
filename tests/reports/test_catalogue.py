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


@pytest.mark.parametrize("code", ["ONE009", "", "XYZ"])
def test_explanation__names_the_closest_code(one, code):
    with pytest.raises(UnknownName, match=r"Closest: .*ONE"):
        explanation([one], code)
