"""Documents that several scripts write: each replaces the lines between its own two markers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def write_section(path: Path, name: str, lines: list[str]) -> None:
    """Put ``lines`` between a document's markers of ``name``, or at its end with new markers."""
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    section = "\n".join([start, "", *lines, end]) + "\n"
    text = path.read_text() if path.exists() else ""
    found = re.search(re.escape(start) + ".*?" + re.escape(end) + "\n?", text, re.DOTALL)
    if found:
        text = text[: found.start()] + section + text[found.end() :]
    else:
        text = text + "\n" * bool(text) + section
    path.write_text(text)
