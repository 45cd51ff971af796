"""Find the root cause in an error of Keras or TensorFlow, as one line.

Keras wraps errors in errors. The first line of the outermost error says only that an exception was
encountered when calling ``Dense.call()``, or that a class "could not be deserialized properly". The
root cause is some lines further down, or in the exception that caused the error.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Largest length of a reason, in characters. A longer line usually contains a printed object.
_MOST_CHARACTERS = 300

#: Phrases before a cause. The text after the last such phrase is the innermost cause.
_LEADS = re.compile(
    r"Exception encountered: "
    r"|Error encountered:\s"
    r"|Example error message for object <.*?>:\s"
    r"|Exception encountered when calling [^\n]*\n",
    re.DOTALL,
)
#: Phrases after a cause, with which arguments and configurations begin.
_TAILS = re.compile(
    r"\n\s*Arguments received by |\n\s*List of objects that could not be loaded|\n\s*\[\[\{\{node"
    r"|\s*Full object config: |\s*Target variable: <| for '\{\{node | using config=\{"
    r"|\n\s*config=\{|\n\s*\[\[|\s*\[Op:"
    # Advice for the author of a layer, not for the user with the file.
    r"|\. (?:Please|Make sure|See https?:)"
)
#: Sentences that do not state a cause.
_EMPTY = re.compile(
    r"could not be deserialized properly|^Exception encountered when calling"
    r"|^Error when deserializing class|^Graph execution error"
)
_TERMINAL_COLOR = re.compile(r"\x1b\[[\d;]*m")


def find_reason(error: BaseException) -> str:
    """Return the root cause that ``error`` states, on one line and without a full stop.

    If the message of ``error`` states no cause, the cause comes from the earlier error that led to
    ``error``. If no message states a cause, the class name of ``error`` is returned.
    """
    for each in _chain(error):
        reason = _innermost_message(each)
        if reason and not _EMPTY.search(reason):
            return reason
    return type(error).__name__


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield ``error``, then the earlier error that led to ``error``, and so on."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or each.__context__


def _innermost_message(error: BaseException) -> str:
    # The text of a KeyError is the key's repr.
    missing = isinstance(error, KeyError) and len(error.args) == 1
    text = str(error.args[0]) if missing else str(error)
    text = _TERMINAL_COLOR.sub("", text)
    if text.startswith("Graph execution error"):
        text = _last_line(text)
    while lead := _last(_LEADS, text):
        rest = text[lead.end() :]
        if not _TAILS.split(rest)[0].strip():
            text = text[: lead.start()]
            continue
        text = rest
    text = _TAILS.split(text)[0]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return ""
    reason = _shorten(lines[0])
    if missing and re.fullmatch(r"\w+", reason):
        return f"no {reason!r}"
    return reason


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    found = None
    for match in pattern.finditer(text):
        found = match
    return found


def _last_line(text: str) -> str:
    """Return the last line of a traceback, apart from locations such as ``[[{{node x}}]]``."""
    lines = [line.strip() for line in text.splitlines()]
    said = [line for line in lines if line and not line.startswith(("[[", "[Op:"))]
    return said[-1]


def _shorten(line: str) -> str:
    line = line.rstrip(" .:")
    if len(line) <= _MOST_CHARACTERS:
        return line
    start = line[:_MOST_CHARACTERS]
    sentence, dot, _ = start.rpartition(". ")
    return sentence if dot else f"{start.rstrip()}…"
