"""Does `wdyn list` name every question?"""

from wdyn.analysis.machinery import analyzers


def test_list__names_every_question_and_code(wdyn):
    text = wdyn("list").stdout
    for one in analyzers():
        assert one.question in text
        assert all(code in text for code in one.codes)
