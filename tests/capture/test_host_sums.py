"""Which way of measuring suits how many elements?"""

import sys

import pytest

from wdyn.capture import host_sums

COMPILED = "wdyn.capture.compiled"


def test_best_way__compiles_for_many_elements_only(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    monkeypatch.delitem(sys.modules, COMPILED, raising=False)
    assert host_sums.best_way(host_sums.WORTH_COMPILING - 1) is host_sums.PLAIN
    assert host_sums.best_way(host_sums.WORTH_COMPILING) is not host_sums.PLAIN


def test_best_way__uses_what_is_compiled_already(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    monkeypatch.setitem(sys.modules, COMPILED, object())
    assert host_sums.best_way(1) is not host_sums.PLAIN


def test_best_way__does_without_numba_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, f"{COMPILED}_kernel", None)
    assert host_sums._compiled_or_plain.__wrapped__() is host_sums.PLAIN
