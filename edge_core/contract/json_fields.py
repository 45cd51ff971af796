"""Checked access to the fields of a JSON or TOML document.

Manifests, profiles, plans, fleets and commands arrive from disks and brokers, so every value is
checked. A :class:`Field` is one value and its path in the document. Each method returns the value
with the type that the caller asks for, or raises a :class:`FieldError` with the path, the value
found and the value expected.
"""

from __future__ import annotations

import json
import math
import re
import reprlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_core.contract.names import NAME_EXPECTED, NAME_PATTERN
from edge_core.did_you_mean import did_you_mean
from edge_core.errors import EdgePartitionError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_SHA256_PATTERN = re.compile(r"[0-9a-f]{64}")
#: Shortens a wrong value in an error: the error stays one line even for a long or nested value.
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxlong = 80
_MAX_SHOWN = 160
_JSON_WORDS = {"None": "null", "True": "true", "False": "false"}


class FieldError(EdgePartitionError):
    """A field is missing, unknown, of the wrong type or out of range.

    Attributes:
        where: The field's path, such as ``stages[1].inputs[0].dtype``.
        problem: The value found and the value expected, with a final period or question mark.
    """

    def __init__(self, where: str, problem: str) -> None:
        self.where = where
        self.problem = problem if problem.endswith("?") else f"{problem}."
        super().__init__(f"{where} {self.problem}")


@dataclass(frozen=True)
class Field:
    """One value of a document.

    Attributes:
        value: The value as ``json`` or ``tomllib`` parsed it.
        path: The path from the root, such as ``stages[1].file``; empty for the root.
        root: The name of the whole document in errors, such as ``manifest``.
    """

    value: Any
    path: str = ""
    root: str = "document"

    @property
    def where(self) -> str:
        """The field's path; for the root, the name of the document."""
        return self.path or self.root

    def error(self, problem: str) -> FieldError:
        """Return an error whose text is this field's path, then ``problem``."""
        return FieldError(self.where, problem)

    def wrong(self, expected: str) -> FieldError:
        """Return an error that shows the value found beside the value expected."""
        return self.error(f"is {shorten(self.value)}; expected {expected}")

    # Parts of an object or a list.

    def object(self) -> dict[str, Any]:
        """Return the value, which must be an object, as a dict."""
        if not isinstance(self.value, dict):
            raise self.error(f"is {_type_name(self.value)}; expected an object")
        return self.value

    def __contains__(self, key: str) -> bool:
        """Return whether the object has the field ``key``."""
        return key in self.object()

    def __getitem__(self, key: str) -> Field:
        """Return the field ``key``, which the object must have."""
        if key not in self.object():
            raise self.get(key).error("is missing")
        return self.get(key)

    def get(self, key: str, default: Any = None) -> Field:
        """Return the field ``key``; if it is missing, return a field with the value ``default``."""
        path = f"{self.path}.{key}" if self.path else key
        return Field(self.object().get(key, default), path, self.root)

    def optional(self, key: str) -> Field | None:
        """Return the field ``key``; ``None`` if the field is missing or null."""
        field = self.get(key)
        return None if field.value is None else field

    def items(self) -> Iterator[Field]:
        """Return the elements of the value, which must be a list, each as a field."""
        if not isinstance(self.value, list):
            raise self.error(f"is {_type_name(self.value)}; expected a list")
        return (
            Field(item, f"{self.path}[{position}]", self.root)
            for position, item in enumerate(self.value)
        )

    def first(self, limit: int) -> Field:
        """Return the field with only the first ``limit`` elements of its list."""
        value = self.value[:limit] if isinstance(self.value, list) else self.value
        return Field(value, self.path, self.root)

    def refuse_unknown(self, known: Collection[str]) -> None:
        """Raise an error if the object has a field that is not in ``known``."""
        for key in self.object():
            if key not in known:
                raise self.get(key).error(f"is an unknown field{_known_words(key, known)}")

    # Values.

    def text(self) -> str:
        """Return the value, which must be a string."""
        if not isinstance(self.value, str):
            raise self.wrong("a string")
        return self.value

    def name(self) -> str:
        """Return the value, which must be a name of the form :data:`NAME_PATTERN`."""
        if not isinstance(self.value, str) or not NAME_PATTERN.fullmatch(self.value):
            raise self.wrong(NAME_EXPECTED)
        return self.value

    def sha256(self) -> str:
        """Return the value, which must be a SHA-256 digest in lower-case hexadecimal digits."""
        if not isinstance(self.value, str) or not _SHA256_PATTERN.fullmatch(self.value):
            raise self.wrong("64 lower-case hexadecimal digits")
        return self.value

    def one_of(self, choices: Collection[str]) -> str:
        """Return the value, which must be one of the strings in ``choices``."""
        text = self.text()
        if text not in choices:
            known = [choice for choice in choices if choice]
            raise self.error(f"is {shorten(text)}{_known_words(text, known)}")
        return text

    def truth(self) -> bool:
        """Return the value, which must be a Boolean."""
        if not isinstance(self.value, bool):
            raise self.wrong("true or false")
        return self.value

    def whole(self, least: int = 0, most: float = math.inf) -> int:
        """Return the value, which must be a whole number in ``[least, most]``."""
        value = self.value
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.wrong(f"a whole number{_range(least, most)}")
        return value

    def number(self, least: float = 0.0, most: float = math.inf, *, above: bool = False) -> float:
        """Return the value, which must be a finite number from ``least`` to ``most``.

        ``most`` itself is allowed. ``least`` itself is allowed unless ``above`` is true.
        """
        number = self._finite()
        if number is None or not least <= number <= most or (above and number == least):
            raise self.wrong(f"a number{_range(least, most, above=above)}")
        return number

    def _finite(self) -> float | None:
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            return None
        try:
            number = float(self.value)
        except OverflowError:  # A whole number beyond the largest float.
            return None
        return number if math.isfinite(number) else None


def parse_json(text: str | bytes | bytearray, root: str) -> Field:
    """Parse a JSON document and return its root field.

    Args:
        text: The document.
        root: The name of the document in errors.

    Raises:
        FieldError: The text is not JSON.
    """
    try:
        return Field(json.loads(text), root=root)
    # The parser raises these errors for bad syntax, and for too deep nesting and too many digits.
    except (ValueError, RecursionError) as error:
        raise FieldError(root, f"is not JSON: {error}") from None


def _known_words(word: str, known: Collection[str]) -> str:
    """Return the end of an error about an unknown word: the closest known word, else all words."""
    return did_you_mean(word, known) or f"; expected one of {', '.join(known)}"


def shorten(value: Any) -> str:
    """Return a value as one short line, for an error."""
    text = _JSON_WORDS.get(str(value), "") if value is None or isinstance(value, bool) else ""
    text = text or _REPR.repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _type_name(value: Any) -> str:
    if value is None:
        return "missing"
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "a string",
             list: "a list", dict: "an object"}  # fmt: skip
    return kinds.get(type(value), f"a {type(value).__name__}")


def _range(least: float, most: float, *, above: bool = False) -> str:
    if least == -math.inf:
        return "" if most == math.inf else f", at most {most:,.12g}"
    if most == math.inf:
        return f" above {least:,.12g}" if above else f", {least:,.12g} or more"
    return (
        f" above {least:,.12g} and at most {most:,.12g}"
        if above
        else f" from {least:,.12g} to {most:,.12g}"
    )
