"""Are claims told as they came out, and refused where they came out otherwise than known?"""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "claims.py"


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLE), run_name="example")


def test_tell__shows_what_did_not_hold_too(example: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    example["tell"](
        [example["Claim"]("water is wet", True, "3 cups"), example["Claim"]("fire is cold", False, "900 K")]
    )
    assert capsys.readouterr().out.splitlines() == [
        "held     | water is wet | 3 cups",
        "NOT held | fire is cold | 900 K",
    ]


@pytest.mark.parametrize(
    ("held", "known", "passes"),
    [
        *[(True, True, True), (False, False, True), (True, None, True), (False, None, True)],
        *[(True, False, False), (False, True, False)],
    ],
)
def test_check__refuses_what_came_out_otherwise_than_known(
    example: dict[str, Any], held: bool, known: bool | None, passes: bool
) -> None:
    claims = [example["Claim"]("sure", True, "1"), example["Claim"]("told", held, "2 of 3", known)]
    if passes:
        example["check"](claims)
        return
    with pytest.raises(AssertionError, match=rf"told: held is {held}, known was {known} \(2 of 3\)"):
        example["check"](claims)
