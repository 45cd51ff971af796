"""Suggestion of the known word closest to a wrong word, for messages about wrong usage."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Least similarity of a suggested word, from 0 to 1 (:mod:`difflib`).
_CLOSE = 0.7


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean WORD?`` with the closest known word; empty if no word is close."""
    close = get_close_matches(word, list(known), n=1, cutoff=_CLOSE)
    return f"; did you mean {close[0]}?" if close else ""
