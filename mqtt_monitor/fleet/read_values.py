"""Reads values of untrusted JSON. An unusable value gives None or an empty list, never an error."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from edge_core.contract.names import NAME_PATTERN

#: The most characters that are kept of a text. Texts are names and versions for tables.
MAX_TEXT = 200
#: The largest accepted number: larger than any real byte count, time or rate, and small enough that
#: sums and products stay finite.
_LARGEST = 1e18
#: Characters that could corrupt a terminal or a log line: control characters, line and paragraph
#: separators, characters that change the writing direction, surrogates.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)


def read_object(payload: bytes, limit_bytes: int) -> dict[str, Any] | None:
    """Return the JSON object in a payload.

    Return None for a payload that is no JSON object or has more than ``limit_bytes`` bytes.
    """
    if len(payload) > limit_bytes:
        return None
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def read_number(value: Any) -> float | None:
    """Return a number from 0 to ``_LARGEST``; None for NaN, infinity and anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # NaN fails both comparisons. Python compares a huge int with a float exactly, without overflow.
    return float(value) if 0 <= value <= _LARGEST else None


def read_signed(value: Any) -> float | None:
    """Return a number from ``-_LARGEST`` to ``_LARGEST``, such as a temperature.

    Return None for anything else.
    """
    if isinstance(value, float | int) and not isinstance(value, bool) and value < 0:
        magnitude = read_number(-value)
        return None if magnitude is None else -magnitude
    return read_number(value)


def read_count(value: Any) -> int | None:
    """Return a number from 0 to ``_LARGEST``, rounded down; None for anything else."""
    number = read_number(value)
    return None if number is None else math.floor(number)


def read_flag(value: Any) -> bool | None:
    """Return a boolean; None for anything else."""
    return value if isinstance(value, bool) else None


def read_text(value: Any) -> str | None:
    """Return the first ``MAX_TEXT`` characters of a text, with unprintable characters replaced.

    Return None for an empty text and for a value that is no text. Markup (``<``, ``[``) is kept, so
    each front end must escape the characters that have a meaning in its own markup.
    """
    if not isinstance(value, str) or not value:
        return None
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", value[:MAX_TEXT])


def read_name(value: Any) -> str | None:
    """Return a valid name of a board, deployment or generation; None for anything else."""
    return value if isinstance(value, str) and NAME_PATTERN.fullmatch(value) else None


def read_list(value: Any, limit: int) -> list[Any]:
    """Return the first ``limit`` items of a list; an empty list for anything else."""
    return value[:limit] if isinstance(value, list) else []
