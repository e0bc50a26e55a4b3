"""How does a finding about first values show its proof?"""

from __future__ import annotations

import json
from collections.abc import Iterable

import xarray as xr

from wdyn import schema
from wdyn.analysis.evidence import sel_line
from wdyn.findings import Finding, Severity

_WHERE = {
    "INI001": "m.verdict == 'not as meant'",
    "INI004": "(m.role == 'embedding') & (m.rule == 'normal(1)')",
    "INI006": "m.verdict == 'not finite'",
    "INI007": "m.rule == 'torch default'",
    "INI008": "(m.verdict == 'unknown') & (m.fan_in > 0)",
}
"""What shows the evidence again where the names are too many to list."""


def told(result: xr.Dataset, names: Iterable[str], code: str, severity: Severity, message: str, advice: str) -> Finding:
    """Make a finding about parameters of what `init_audit` measured."""
    listed = list(dict.fromkeys(names))
    expected = json.loads(result.attrs.get("expected", "{}"))
    call = f"wdyn.init_audit(run, expected={expected!r})" if expected else "wdyn.init_audit(run)"
    evidence = result.sel({schema.PARAMETER: listed})
    return Finding(
        code, severity, message, evidence, advice, sel_line(call, where=_WHERE.get(code, ""), parameter=listed)
    )
