"""How can an analyzer be tested? Runs whose right answers are known, because they were planted."""

from wdyn.testing.making import make_run

__all__ = ["make_run"]
