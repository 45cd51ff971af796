"""The kinds of MODEL argument. To accept another kind, write a reader and add a line to the table.

A reader is a function as in :mod:`~edge_partition.model.reader`, in a file of its own.
"""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_partition.model.reader import ModelRequest

#: The endings of files that Keras reads.
KERAS_ENDINGS = (".keras", ".h5", ".hdf5")

_SAVED_MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt")


@dataclass(frozen=True)
class ModelKind:
    """A kind of MODEL argument.

    Attributes:
        description: The form of the argument.
        matches: Whether an argument is of this kind. The file need not exist.
        reader: The reader as ``package.module:function``, imported when a model of this kind is
            read.
        needs_conversion: Whether TensorFlow converts the model to TFLite. The reader of a kind that
            needs no conversion returns a :class:`~edge_partition.model.reader.ReadTflite`.
        is_folder: Whether the argument is a folder.
        has_signatures: Whether ``--signature`` chooses one of several signatures.
        keeps_model_name: Whether the model keeps the name that it was built with, which may be an
            application's. Other models have the name of their file or folder.
    """

    description: str
    matches: Callable[[str], bool]
    reader: str
    needs_conversion: bool = True
    is_folder: bool = False
    has_signatures: bool = False
    keeps_model_name: bool = True

    def import_reader(self) -> Callable[[ModelRequest], Any]:
        """Import the reader, and the libraries that the reader needs."""
        reader: Callable[[ModelRequest], Any] = pkgutil.resolve_name(self.reader)
        return reader


def model_kind(source: str) -> ModelKind:
    """Return the kind of a MODEL argument: the first of the table that matches.

    The function looks on disk only for the two files of a SavedModel.
    """
    return next(kind for kind in MODEL_KINDS if kind.matches(source))


def _is_saved_model(source: str) -> bool:
    return any((Path(source) / name).is_file() for name in _SAVED_MODEL_FILES)


def _ends_in(*endings: str) -> Callable[[str], bool]:
    """Return a test for the ending of an argument, in capitals or not."""
    return lambda source: source.lower().endswith(endings)


#: The first kind that matches applies; the last one matches every argument.
MODEL_KINDS = (
    ModelKind(
        "the folder of a SavedModel",
        matches=_is_saved_model,
        reader="edge_partition.model.saved_model:read_saved_model",
        is_folder=True,
        has_signatures=True,
        keeps_model_name=False,
    ),
    ModelKind(
        "a .tflite file",
        matches=_ends_in(".tflite"),
        reader="edge_partition.model.read_tflite_file:read_tflite_file",
        needs_conversion=False,
        has_signatures=True,
        keeps_model_name=False,
    ),
    ModelKind(
        "a .keras or .h5 file",
        matches=_ends_in(*KERAS_ENDINGS),
        reader="edge_partition.model.read_keras_file:read_keras_file",
    ),
    ModelKind(
        "package.module:function",
        matches=lambda source: ":" in source,
        reader="edge_partition.model.read_function:read_function",
    ),
    ModelKind(
        "the name of a Keras application",
        matches=lambda _source: True,
        reader="edge_partition.model.read_application:read_application",
    ),
)
