"""Write one section of a document that several scripts write."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def write_section(path: Path, name: str, lines: list[str]) -> None:
    """Replace the lines between the markers of ``name``; without markers, append the section."""
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    section = "\n".join([start, "", *lines, end]) + "\n"
    text = path.read_text() if path.exists() else ""
    found = re.search(re.escape(start) + ".*?" + re.escape(end) + "\n?", text, re.DOTALL)
    if found:
        text = text[: found.start()] + section + text[found.end() :]
    else:
        text = text + "\n" * bool(text) + section
    path.write_text(text)
