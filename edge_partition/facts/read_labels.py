"""Class names: from the files that lie beside a model, and from those that a person names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from edge_core.errors import EdgePartitionError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

#: What models of 1,001 classes call the first: TensorFlow's ImageNet models.
_BACKGROUND = "background"
_IMAGENET_CLASSES = 1000
#: Of a name without its question marks, as the first of a list for ImageNet's classes.
_NO_CLASS = frozenset({"", _BACKGROUND, "unknown", "none"})
#: What a YOLO head has beside its classes: a box, and in older ones whether there is one.
_BOX_NUMBERS = (4, 5)
_NUMBERED = re.compile(r"(\d+)[\s:,;]+(\S.*)")


class LabelsError(EdgePartitionError):
    """A labels file can't be used.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        super().__init__(f"{path} can't be used: {reason}")


def read_labels(model_file: Path) -> tuple[str, ...]:
    """Return the class names in ``model.labels.txt`` beside ``model_file``; none without it.

    Raises:
        LabelsError: The file is there and can't be read.
    """
    path = model_file.with_suffix(".labels.txt")
    return read_labels_file(path) if path.exists() else ()


def read_labels_file(path: Path) -> tuple[str, ...]:
    """Return the class names of a file, one a line; numbers before them, ``0 cat``, are dropped.

    Raises:
        LabelsError: It can't be read, or is empty.
    """
    expected = "expected UTF-8 text, one class name per line. Correct or remove the file."
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise LabelsError(path, f"{error.strerror or error}; {expected}") from None
    except UnicodeDecodeError as error:
        raise LabelsError(path, f"byte {error.start} is not UTF-8; {expected}") from None
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise LabelsError(path, f"the file is empty; {expected}")
    numbered = [_NUMBERED.fullmatch(line.strip()) for line in lines]
    if all(match and int(match[1]) == place for place, match in enumerate(numbered)):
        return tuple(match[2] for match in numbered if match)
    return tuple(lines)


def fit_labels(
    labels: tuple[str, ...],
    shapes: Sequence[tuple[int, ...]],
    where: Path | str,
    *,
    is_detector: bool = False,
    strict: bool = False,
) -> tuple[tuple[str, ...], str]:
    """Return the labels as the model's outputs have classes, and a sentence where they had not.

    Of ImageNet models with 1,001 classes the first is the background, which a list of 1,000
    lacks. A first name ``???`` or ``background`` is left out where there is one name too many.
    Nothing else is shifted: with one name too few, nobody knows which class lacks it.

    Args:
        labels: Class names.
        shapes: Of the model's outputs.
        where: The labels' file, for the sentence.
        is_detector: Whether the outputs are boxes, whose numbers say nothing of classes.
        strict: Whether labels that don't fit are an error.

    Raises:
        LabelsError: They don't fit.
    """
    classes = shapes[0][-1] if shapes and shapes[0] else 1
    heads = {
        size - extra
        for shape in shapes
        if len(shape) >= 3  # noqa: PLR2004 -- batch, and boxes with their numbers
        for size in shape[1:]
        for extra in _BOX_NUMBERS
    }
    lengths = {shape[-1] for shape in shapes if shape}
    if is_detector or len(labels) in lengths or (len(labels) > 1 and len(labels) in heads):
        return labels, ""
    differs = f"{where}: {len(labels)} names for {classes} classes"
    if len(labels) == _IMAGENET_CLASSES == classes - 1:
        return (_BACKGROUND, *labels), f"{differs}; the first class is taken as the background."
    if len(labels) - 1 == classes and _is_no_class(labels[0], classes):
        return labels[1:], f"{differs}; the first name, {labels[0]!r}, is left out."
    found = f"{len(labels)} names, and the model's first output has {classes} classes"
    if strict and not isinstance(where, str):
        raise LabelsError(where, f"the file has {found}; expected one name per class.")
    return (), f"{where}: {found}; the names are not used. Give other names with --labels FILE."


def _is_no_class(name: str, classes: int) -> bool:
    """Return whether the first name of a list stands for no class."""
    bare = name.strip().strip("?").lower()
    if classes == _IMAGENET_CLASSES:
        return bare in _NO_CLASS
    return bare == _BACKGROUND or (bare == "" and "?" in name)


def labels_beside(
    model_file: Path, shapes: Sequence[tuple[int, ...]]
) -> tuple[tuple[str, ...], list[str]]:
    """Return class names that lie beside a model under a common name, and a sentence about it.

    ``labels.txt`` or ``model.txt`` may belong to something else: it is taken where it has exactly
    as many names as the first output has classes.
    """
    classes = shapes[0][-1] if shapes and shapes[0] else 0
    for path in (model_file.with_name("labels.txt"), model_file.with_suffix(".txt")):
        if not path.is_file():
            continue
        try:
            labels = read_labels_file(path)
        except LabelsError:
            continue
        if len(labels) == classes > 1:
            return labels, [f"Class names come from {path}, a file beside the model."]
    return (), []


def find_class(file: Path, labels: Sequence[str]) -> int | None:
    """Return the position in ``labels`` of the one that an input's path names.

    That is its folder's name (``cat/01.jpg``) or else the first part of its own name, between
    ``-``, ``_`` and spaces, that is a label (``digit-7-0042.png``); None where neither is one.
    """
    for word in (file.parent.name, *re.split(r"[-_ ]", file.stem)):
        if word in labels:
            return labels.index(word)
    return None
