"""Shortens a text by whole words, so that no number is cut. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text


def shorten(text: Text, width: int) -> Text:
    """Leave out the last words of a text, so that at most ``width`` characters remain.

    ``…`` replaces the words that are left out. A first word longer than ``width`` is cut.
    """
    if text.cell_len <= width:
        return text
    end = text.plain.rfind(" ", 0, max(0, width - 1))
    shown = text[:end] if end > 0 else text.copy()
    if end > 0:
        shown.append(" …")
    shown.truncate(max(1, width), overflow="ellipsis")
    return shown
