"""Which programs do the diffs of a page stand for?"""

import re
from pathlib import Path


def diffs_of(page: Path) -> dict[str, str]:
    """Give each block by the section that it stands in; more of one section are numbered."""
    found: dict[str, str] = {}
    for section in re.split(r"^#+ ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        heading = section.partition("\n")[0]
        for number, block in enumerate(re.findall(r"^```diff\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)):
            found[f"{heading} {number + 1}" if number else heading] = block
    return found


def side(block: str, marked: str) -> str:
    """Give the program of one side: its marked lines, and those that stay."""
    return "".join(f"{line[1:]}\n" for line in block.splitlines() if line[:1] in ("", " ", marked))
