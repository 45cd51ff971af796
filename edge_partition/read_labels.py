"""The class names that lie beside a model: ``model.labels.txt``, one name a line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from broker_config.errors import EdgePartitionError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class LabelsError(EdgePartitionError):
    """A labels file is there and can't be read.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        super().__init__(
            f"{path} can't be read: {reason}; expected UTF-8 text, one class name a line. "
            "Mend it or move it away."
        )


def read_labels(model_file: Path) -> tuple[str, ...]:
    """Return the class names for ``model_file``; none where it has no labels file.

    Raises:
        LabelsError: The file is there and can't be read.
    """
    path = model_file.with_suffix(".labels.txt")
    if not path.exists():
        return ()
    try:
        return tuple(path.read_text(encoding="utf-8").splitlines())
    except OSError as error:
        raise LabelsError(path, error.strerror or str(error)) from None
    except UnicodeDecodeError as error:
        raise LabelsError(path, f"byte {error.start} is no UTF-8") from None


def find_class(file: Path, labels: Sequence[str]) -> int | None:
    """Return the position in ``labels`` of the one that an input's path names.

    That is its folder's name (``cat/01.jpg``) or else the first part of its own name, between
    ``-``, ``_`` and spaces, that is a label (``digit-7-0042.png``); None where neither is one.
    """
    for word in (file.parent.name, *re.split(r"[-_ ]", file.stem)):
        if word in labels:
            return labels.index(word)
    return None
