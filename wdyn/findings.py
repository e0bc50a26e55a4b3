"""What does a check conclude? Severity and Finding."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from html import escape

import xarray as xr


class Severity(IntEnum):
    """How bad a finding is. ``ERROR`` is kept for what nobody can intend."""

    INFO = 10
    WARNING = 20
    ERROR = 30

    def __str__(self) -> str:
        return self.name

    @classmethod
    def parse(cls, text: str) -> Severity:
        """Read a severity from its name, in any case."""
        return cls[text.upper()]


@dataclass(frozen=True, eq=False)
class Finding:
    """One conclusion of a check, with what proves it.

    Attributes
    ----------
    code
        Family and number, such as ``INI002``. Never reused for another meaning.
    severity
        How bad it is.
    message
        One sentence; names at most three parameters, in full.
    evidence
        The slice of the measurement that proves the sentence.
    advice
        What to do about it; may be empty.
    reproduce
        The line of Python that shows the evidence again, given ``run``; may be empty.
    """

    code: str
    severity: Severity
    message: str
    evidence: xr.Dataset = field(default_factory=xr.Dataset, repr=False)
    advice: str = ""
    reproduce: str = ""

    @property
    def family(self) -> str:
        """The letters of the code: ``INI`` of ``INI002``."""
        return self.code.rstrip("0123456789")

    def __str__(self) -> str:
        return f"{self.code} {self.severity}: {self.message}"

    def _repr_html_(self) -> str:
        parts = [f"<p><strong>{self.severity}</strong> <code>{escape(self.code)}</code> {escape(self.message)}</p>"]
        if self.advice:
            parts.append(f"<p><strong>What to do:</strong> {escape(self.advice)}</p>")
        if self.reproduce:
            parts.append(f"<pre><code>{escape(self.reproduce)}</code></pre>")
        return "\n".join(parts)
