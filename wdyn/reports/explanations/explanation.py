"""What does a finding mean at length: when is it given, what causes it, and what can one do?

Words in braces are limits of the check that gives the code: they are filled in with its defaults.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass

from wdyn.analysis.analyzer import Check


@dataclass(frozen=True)
class Explanation:
    """What there is to know about a code.

    Attributes
    ----------
    meaning
        What it says of the run.
    given
        When the check gives it, with the limits.
    causes
        What usually lies behind it.
    remedy
        What to do about it.
    """

    meaning: str
    given: str
    causes: str
    remedy: str

    def lines(self, check: Check) -> dict[str, str]:
        """Write it as headed lines, with the limits that `check` has by default."""
        parameters = inspect.signature(check).parameters.values()
        limits = {one.name: one.default for one in parameters if one.kind is one.KEYWORD_ONLY}
        return {
            "What it means": self.meaning.format(**limits),
            "When": self.given.format(**limits),
            "Usual causes": self.causes.format(**limits),
            "What to do": self.remedy.format(**limits),
        }
