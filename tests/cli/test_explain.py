"""Does `wdyn explain` tell what a code means?"""

from wdyn.analysis.machinery import analyzers


def test_explain__knows_every_code(wdyn):
    for one in analyzers():
        for code, line in one.codes.items():
            assert f"{code}  {line}" in wdyn("explain", code).stdout


def test_explain__says_when_a_code_is_given_and_what_to_do(wdyn):
    text = wdyn("explain", "dep002").stdout
    assert "ended below 0.5 times its first value" in text
    assert "What to do" in text


def test_explain__names_the_closest_code(wdyn):
    result = wdyn("explain", "INI999")
    assert result.exit_code == 2
    assert "Closest: INI" in result.stderr
