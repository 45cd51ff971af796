"""The kinds of MODEL argument, and the reader of each kind.

A reader is a function that reads the models of one kind. The module
:mod:`~edge_partition.model.reader` defines the argument and the result of readers. To accept
another kind, write a reader in a file of its own, and add an entry to :data:`MODEL_KINDS`.
"""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_partition.model.reader import ModelRequest

#: The name endings of files that Keras reads.
KERAS_ENDINGS = (".keras", ".h5", ".hdf5")

_SAVED_MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt")


@dataclass(frozen=True)
class ModelKind:
    """A kind of MODEL argument.

    Attributes:
        description: Words for the form of the argument, such as ``a .tflite file``.
        matches: Function that returns whether an argument is of this kind.
        reader: The reader as ``package.module:function``. The module is imported only when a model
            of this kind is read.
        needs_conversion: Whether TensorFlow converts the model to TFLite. The reader of a kind that
            needs no conversion returns a :class:`~edge_partition.model.reader.ReadTflite`.
        is_folder: Whether the argument is a folder.
        has_signatures: Whether the model may have several signatures, of which ``--signature``
            chooses one.
        keeps_model_name: Whether the model has the name that its builder gave, which may be the
            name of a Keras application. Other models have the name of their file or folder.
    """

    description: str
    matches: Callable[[str], bool]
    reader: str
    needs_conversion: bool = True
    is_folder: bool = False
    has_signatures: bool = False
    keeps_model_name: bool = True

    def import_reader(self) -> Callable[[ModelRequest], Any]:
        """Import the reader's module and the libraries that the module needs; return the reader."""
        reader: Callable[[ModelRequest], Any] = pkgutil.resolve_name(self.reader)
        return reader


def model_kind(source: str) -> ModelKind:
    """Return the kind of a MODEL argument: the first entry of :data:`MODEL_KINDS` that matches.

    The file that the argument names need not exist. The function looks on disk only for the main
    file of a SavedModel.
    """
    return next(kind for kind in MODEL_KINDS if kind.matches(source))


def _is_saved_model(source: str) -> bool:
    return any((Path(source) / name).is_file() for name in _SAVED_MODEL_FILES)


def _ends_in(*endings: str) -> Callable[[str], bool]:
    """Return a function that tells whether an argument has one of ``endings``, ignoring case."""
    return lambda source: source.lower().endswith(endings)


#: All kinds, in the order in which :func:`model_kind` tries them. The last kind matches every
#: argument.
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
