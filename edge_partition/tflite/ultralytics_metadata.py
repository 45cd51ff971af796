"""Read the dictionary that an Ultralytics export packs behind its model."""

from __future__ import annotations

import ast
import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_partition.tflite.packed_files import PackedFiles

#: Largest dictionary that is read; one of 1,000 classes is below 100 kB.
_MAX_DICTIONARY_BYTES = 1 << 20
_DICTIONARY_FILES = re.compile(r".*\.(json|txt|yaml|yml)", re.IGNORECASE)
#: Keys that only an Ultralytics dictionary has together.
_DICTIONARY_KEYS = frozenset({"names", "stride"})


def read_ultralytics(files: PackedFiles) -> dict[str, Any] | None:
    """Return the first Ultralytics dictionary among the files, its ``names`` as a list."""
    for name in files:
        if not _DICTIONARY_FILES.fullmatch(name) or files.size_bytes(name) > _MAX_DICTIONARY_BYTES:
            continue
        try:
            found = _parse_dictionary(files[name].decode())
        except KeyError:
            continue
        except UnicodeDecodeError:
            continue
        if isinstance(found, dict) and found.keys() >= _DICTIONARY_KEYS:
            names = _listed(found["names"])
            if names is not None:
                return {**found, "names": names}
    return None


def _parse_dictionary(text: str) -> Any:
    """Return the value of a JSON text or a Python literal; None if the text is neither."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _listed(names: Any) -> list[str] | None:
    """Return class names as a list, from a list or from a dictionary by class number."""
    if isinstance(names, list | tuple):
        return [str(name) for name in names]
    if not isinstance(names, dict):
        return None
    try:
        by_number = {int(number): str(name) for number, name in names.items()}
    except (ValueError, TypeError):
        return None
    if set(by_number) != set(range(len(by_number))):
        return None
    return [by_number[number] for number in range(len(by_number))]
