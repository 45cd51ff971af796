"""Read class names from a file beside the model, or from a file that the user gives."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from edge_core.errors import EdgePartitionError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

#: Name of the first class of TensorFlow's ImageNet models with 1,001 classes.
_BACKGROUND = "background"
_IMAGENET_CLASSES = 1000
#: Texts that stand for no class if they are the first name in a list of ImageNet's classes.
#: Question marks are removed before the comparison.
_NO_CLASS = frozenset({"", _BACKGROUND, "unknown", "none"})
#: How many numbers a YOLO head gives for each box in addition to the class scores: four
#: coordinates; in older heads, four coordinates and an object score.
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
    """Return the class names in the labels file beside a model; empty without a labels file.

    The labels file of ``cats.tflite`` is ``cats.labels.txt`` in the same folder.

    Raises:
        LabelsError: The labels file can't be read, or is empty.
    """
    path = model_file.with_suffix(".labels.txt")
    return read_labels_file(path) if path.exists() else ()


def read_labels_file(path: Path) -> tuple[str, ...]:
    """Return the class names in a file that has one class name per line.

    If every line starts with the line's number, counted from 0, the numbers are removed: ``0 cat``
    becomes ``cat``.

    Raises:
        LabelsError: The file can't be read, or is empty.
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
    """Return one label for each class of the model's outputs, and a note for the user.

    If the model has 1,001 classes and there are 1,000 labels, ``background`` is added as the first
    label, as in TensorFlow's ImageNet models. If there is one label too many and the first label
    stands for no class, such as ``???`` or ``background``, the first label is left out. In all
    other cases, labels that do not fit are not used.

    Args:
        labels: Class names.
        shapes: Shapes of the model's outputs.
        where: The labels file, or the name of another source of the labels; for messages.
        is_detector: Whether the outputs are boxes. The shapes of such outputs do not give the
            number of classes, so any number of labels fits.
        strict: Whether to raise an error if a labels file does not fit.

    Returns:
        The labels, which are empty if they do not fit, and the note, which is empty if the labels
        are used unchanged.

    Raises:
        LabelsError: The labels file does not fit, and ``strict`` is set.
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
    found = f"{len(labels)} names, but the model's first output has {classes} classes"
    if strict and not isinstance(where, str):
        raise LabelsError(
            where, f"the file has {found}; expected one name per class. Give another labels file."
        )
    return (), f"{where}: {found}; the names are not used. Give other names with --labels FILE."


def _is_no_class(name: str, classes: int) -> bool:
    """Return whether ``name``, the first name in a list of labels, stands for no class."""
    bare = name.strip().strip("?").lower()
    if classes == _IMAGENET_CLASSES:
        return bare in _NO_CLASS
    return bare == _BACKGROUND or (bare == "" and "?" in name)


def labels_beside(
    model_file: Path, shapes: Sequence[tuple[int, ...]]
) -> tuple[tuple[str, ...], list[str]]:
    """Return class names from a text file in the model's folder, and a note about the file.

    The file is named ``labels.txt``, or has the model's name: ``cats.txt`` for ``cats.tflite``.
    Such a file may belong to another model. Therefore the file is used only if the number of names
    equals the number of classes of the first output. Both results are empty if no file is used.
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
    """Return the index in ``labels`` of the class that a file's path names.

    If the name of the file's folder is a label, the folder names the class (``cat/01.jpg``).
    Otherwise, the file's name is split at ``-``, ``_`` and spaces, and the first part that is a
    label names the class (``digit-7-0042.png``). If no part is a label, the result is None.
    """
    for word in (file.parent.name, *re.split(r"[-_ ]", file.stem)):
        if word in labels:
            return labels.index(word)
    return None
