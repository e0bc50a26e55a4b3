"""Is every code explained, at a length that one reads?"""

import pytest

from wdyn.analysis.machinery import Analyzer, analyzers
from wdyn.analysis.round_trip import ROUND_TRIP
from wdyn.reports.explanations import EXPLANATIONS

OWN = [one for one in analyzers() if one.measure.__module__.startswith("wdyn.")]
CODES = [(one, code) for one in (*OWN, ROUND_TRIP) for code in one.codes]


@pytest.mark.parametrize(("one", "code"), CODES, ids=[code for _, code in CODES])
def test_explanations__say_each_code_in_40_to_120_words(one, code):
    lines = EXPLANATIONS[code].lines(one.check)
    assert all(line.endswith(".") for line in lines.values())
    assert 40 <= sum(len(line.split()) for line in lines.values()) <= 120
    assert one.codes[code] not in lines.values()


def test_explanations__are_of_codes_that_exist():
    assert set(EXPLANATIONS) == {code for _, code in CODES}


@pytest.mark.parametrize(
    ("code", "limit"), [("INI008", "60%"), ("DEP002", "below 0.3 "), ("FRZ003", "at least 9 values")]
)
def test_explanations__take_their_limits_from_the_check(code, limit):
    def check(result, *, unknown_share=0.6, collapse=0.3, off_scale=0.02, least_values=9):
        return ()

    one = Analyzer("one", "ONE", "?", lambda run: None, check)
    assert limit in EXPLANATIONS[code].lines(one.check)["When"]
