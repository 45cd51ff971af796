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
    """Return the JSON object in a payload; None: no JSON object, or more than ``limit_bytes``."""
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
    """Return a number of either sign, such as a temperature; None for anything else.

    The magnitude is at most ``_LARGEST``.
    """
    if isinstance(value, float | int) and not isinstance(value, bool) and value < 0:
        magnitude = read_number(-value)
        return None if magnitude is None else -magnitude
    return read_number(value)


def read_count(value: Any) -> int | None:
    """Return a number of at least 0, rounded down; None for anything else."""
    number = read_number(value)
    return None if number is None else math.floor(number)


def read_flag(value: Any) -> bool | None:
    """Return a boolean; None for anything else."""
    return value if isinstance(value, bool) else None


def read_text(value: Any) -> str | None:
    """Return the first ``MAX_TEXT`` characters of a text, with unprintable characters replaced.

    Return None for an empty text and for anything else. Markup (``<``, ``[``) is kept: each front
    end must escape the markup that the front end would interpret.
    """
    if not isinstance(value, str) or not value:
        return None
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", value[:MAX_TEXT])


def read_name(value: Any) -> str | None:
    """Return a valid name of a board, deployment or generation; None for anything else."""
    return value if isinstance(value, str) and NAME_PATTERN.fullmatch(value) else None


def read_list(value: Any, limit: int) -> list[Any]:
    """Return the first items of a list, at most ``limit``; an empty list for anything else."""
    return value[:limit] if isinstance(value, list) else []
