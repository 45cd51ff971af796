"""Values out of JSON that anybody may have sent: what can't be read is None, nothing raises."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from edge_core.contract.names import NAME_PATTERN

#: Longer texts are cut: they are names and versions, shown in tables.
MAX_TEXT = 200
#: Beyond every byte count, time and rate there is; keeps sums and products finite.
_LARGEST = 1e18
#: Control characters, line and paragraph separators, and those that change the direction of
#: writing or can't be encoded: what could garble a terminal or a log line.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)


def read_object(payload: bytes, limit_bytes: int) -> dict[str, Any] | None:
    """Return a JSON object; None for anything else, and for more than ``limit_bytes``."""
    if len(payload) > limit_bytes:
        return None
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def read_number(value: Any) -> float | None:
    """Return a number, 0 or more; None for NaN, infinity and anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # Comparing a NaN is false, and comparing a huge int with a float is exact.
    return float(value) if 0 <= value <= _LARGEST else None


def read_signed(value: Any) -> float | None:
    """Return a number of either sign, such as a temperature."""
    if isinstance(value, float | int) and not isinstance(value, bool) and value < 0:
        magnitude = read_number(-value)
        return None if magnitude is None else -magnitude
    return read_number(value)


def read_count(value: Any) -> int | None:
    """Return a whole number, 0 or more."""
    number = read_number(value)
    return None if number is None else math.floor(number)


def read_flag(value: Any) -> bool | None:
    """Return a boolean."""
    return value if isinstance(value, bool) else None


def read_text(value: Any) -> str | None:
    """Return a text without control characters, cut to a table's measure; None: no text.

    Markup (``<``, ``[``) stays: each face escapes what means something to it.
    """
    if not isinstance(value, str) or not value:
        return None
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", value[:MAX_TEXT])


def read_name(value: Any) -> str | None:
    """Return a name of a device, deployment or generation; None for what can't be one."""
    return value if isinstance(value, str) and NAME_PATTERN.fullmatch(value) else None


def read_list(value: Any, limit: int) -> list[Any]:
    """Return at most ``limit`` items of a list; of anything else none."""
    return value[:limit] if isinstance(value, list) else []
