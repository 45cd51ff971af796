"""Read the dictionary of model properties that Ultralytics adds to an exported ``.tflite`` file.

The dictionary is in a file of the ZIP archive that follows the model. The dictionary's keys include
``task``, ``names`` (class names) and ``imgsz`` (image size).
"""

from __future__ import annotations

import ast
import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_partition.tflite.packed_files import PackedFiles

#: Size limit of a dictionary. A dictionary with 1,000 classes has less than 100 kB.
_MAX_DICTIONARY_BYTES = 1 << 20
_DICTIONARY_FILES = re.compile(r".*\.(json|txt|yaml|yml)", re.IGNORECASE)
#: Only dictionaries from Ultralytics contain both of these keys.
_DICTIONARY_KEYS = frozenset({"names", "stride"})


def read_ultralytics(files: PackedFiles) -> dict[str, Any] | None:
    """Return the first Ultralytics dictionary in ``files``; None if there is none.

    In the result, the value of the key ``names`` is a list of class names, by class number.
    """
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
    """Parse a text that starts with ``{`` as JSON or as a Python literal.

    The result is None if the text does not start with ``{``, or cannot be parsed.
    """
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
    """Return class names as a list; None if ``names`` has no valid form.

    Two forms are valid: a list of names, and a dictionary from class numbers to names. The class
    numbers of ``n`` names are 0 to ``n - 1``.
    """
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
