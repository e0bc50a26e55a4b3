"""How does it read whether one model is what another is?"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from wdyn.analysis.likeness_words import number
from wdyn.analysis.round_trip import Compared, check
from wdyn.findings import Finding, Severity
from wdyn.reports import json_format
from wdyn.schema import State


@dataclass(frozen=True, eq=False)
class RoundTrip:
    """What `verify` found of two models.

    Attributes
    ----------
    compared
        All that was compared.
    """

    compared: Compared

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """What differs, the worst first; nothing where b is a."""
        return tuple(sorted(check(self.compared), key=lambda one: (-one.severity, one.code)))

    @property
    def is_whole(self) -> bool:
        """Whether nothing differs that was compared."""
        return all(one.severity < Severity.WARNING for one in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Give it as what JSON can hold."""
        found = {
            "a": self.compared.parameters.attrs["a"],
            "b": self.compared.parameters.attrs["b"],
            "is_whole": self.is_whole,
            "findings": [
                {"code": one.code, "severity": str(one.severity), "message": one.message, "advice": one.advice}
                for one in self.findings
            ],
            "equal": list(self.equal),
            "not_compared": dict(self.compared.left),
            "outputs": vars(self.compared.outputs) if self.compared.outputs else None,
        }
        plain: dict[str, Any] = json.loads(json_format.written(found))
        return plain

    def lines(self) -> list[str]:
        """Say it in words, each thing on a line of its own."""
        a, b = (self.compared.parameters.attrs[side] for side in ("a", "b"))
        said = "the same, as far as was compared" if self.is_whole else "not the same"
        found = [line for one in self.findings for line in (str(one), *([f"  → {one.advice}"] if one.advice else []))]
        left = [f"Not compared: {what} ({why})" for what, why in self.compared.left.items()]
        return [f"{a} → {b}: {said}", *found, *(f"Equal: {words}" for words in self.equal), *left]

    def __str__(self) -> str:
        return "\n".join(self.lines())

    @property
    def equal(self) -> tuple[str, ...]:
        """What was compared and is the same, in words."""
        parameters, outputs = self.compared.parameters, self.compared.outputs
        equal = parameters["state"].values == State.EQUAL
        told = [f"{equal.sum()} of {equal.size} parameters, bit for bit"] if equal.any() else []
        if outputs is not None and outputs.largest == 0 and min(outputs.variances) > 0:
            told.append(f"outputs on {outputs.probe}, with a variance of {number(outputs.variances[0])}")
        return (*told, *self.compared.done)
