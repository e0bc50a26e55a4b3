"""How does text from outside stay text?

Names of parameters, messages of plug-ins and paths are data. They may hold markup, terminal codes, or characters that
turn the direction of writing around; none of these may act.
"""

from __future__ import annotations

import re

_MARKDOWN = re.compile(r"([\\`*_\[\]<>&|~$#])")


def visible(text: object) -> str:
    r"""Write control, invisible and direction-changing characters as escapes: a line feed becomes ``\n``."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))


def markdown(text: object) -> str:
    """Write text so that Markdown shows it as it is: no emphasis, no HTML, no link."""
    # A bare address is a link in GitHub's dialect, unless its colon is written as an entity.
    return _MARKDOWN.sub(r"\\\1", visible(text)).replace("://", "&#58;//")


def code_block(text: object) -> str:
    """Write one line of code as a Markdown block that its own backticks cannot close."""
    line = visible(text)
    longest = max((len(ticks) for ticks in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}python\n{line}\n{fence}"
