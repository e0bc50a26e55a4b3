"""What does one learn of a run that was read back whole?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wdyn.naming import examples


@dataclass(frozen=True)
class Damage:
    """Something that is not as it was written.

    Attributes
    ----------
    file
        Which one, within the run.
    array
        Path of the array, or of the group, that it belongs to; "" for the root.
    parameters
        Whose values are in it; none where it holds those of no parameter.
    steps
        First and last step that it tells of; none where it tells of no step, or these cannot be read.
    reason
        What was found.
    """

    file: str
    array: str
    parameters: tuple[str, ...]
    steps: tuple[int, ...]
    reason: str

    def __str__(self) -> str:
        of = f" of {examples(self.parameters)}" if self.parameters else ""
        return f"{self.array or 'the run'}{of}{self._at()}: {self.reason}. The file is {self.file}"

    def _at(self) -> str:
        if not self.steps:
            return ""
        first, last = self.steps[0], self.steps[-1]
        return f" at step {first}" if first == last else f" at steps {first} to {last}"


@dataclass(frozen=True)
class Verification:
    """What `verify` found.

    Attributes
    ----------
    path
        The run.
    files, nbytes
        How many files were read, and their size.
    damages
        All that is not as it was written; none where everything is.
    """

    path: Path
    files: int
    nbytes: int
    damages: tuple[Damage, ...]

    @property
    def is_whole(self) -> bool:
        """Whether everything is as it was written."""
        return not self.damages

    def as_dict(self) -> dict[str, Any]:
        """Give it as what JSON can hold."""
        found = [{**asdict(one), "parameters": list(one.parameters), "steps": list(one.steps)} for one in self.damages]
        return {"run": str(self.path), "files": self.files, "bytes": self.nbytes, "damages": found}

    def lines(self) -> list[str]:
        """Say it in words, each damage on a line of its own."""
        told = f"{self.path}: {self.files:,} files read back, {self.nbytes:,} bytes"
        if self.is_whole:
            return [f"{told}, each as it was written"]
        return [f"{told}, {len(self.damages):,} damaged or missing", *map(str, self.damages)]

    def __str__(self) -> str:
        return "\n".join(self.lines())
