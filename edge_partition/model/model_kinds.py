"""The kinds of MODEL argument: how each is recognized, and the function that reads it.

A further kind is one more entry of :class:`ModelKind`: this module is the only place that lists the
kinds. The module imports neither TensorFlow nor Keras; the readers do, when they are called.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

#: The endings of files that Keras reads.
KERAS_ENDINGS = (".keras", ".h5", ".hdf5")

_TFLITE_ENDING = ".tflite"
_SAVED_MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt")


@dataclass(frozen=True)
class ModelRequest:
    """The arguments of a reader.

    Attributes:
        source: The MODEL argument.
        weights: A weights file, ``seeded``, or None for the model's own.
        input_shapes: Shapes without the batch, by input name; ``""`` stands for every open input.
        signature: Name of a signature; None for the default.
    """

    source: str
    weights: str | None = None
    input_shapes: Mapping[str, Sequence[int]] | None = None
    signature: str | None = None


@dataclass(frozen=True)
class ReadModel:
    """A model as its reader returns it: a Keras 3 or Keras 2 model, or a traced model.

    Attributes:
        model: The model.
        name: Name for people.
        weights: ``imagenet``, ``seeded`` or ``trained``.
        labels: Class names along the output's last axis; may be empty.
        notes: Notes for the user about the reading.
    """

    model: Any
    name: str
    weights: str
    labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def _is_saved_model(source: str) -> bool:
    return any((Path(source) / name).is_file() for name in _SAVED_MODEL_FILES)


def _is_tflite(source: str) -> bool:
    return source.lower().endswith(_TFLITE_ENDING)


def _is_keras_file(source: str) -> bool:
    return source.lower().endswith(KERAS_ENDINGS)


def _is_function(source: str) -> bool:
    return ":" in source


def _is_any(_source: str) -> bool:
    return True


class ModelKind(Enum):
    """A kind of MODEL argument. The first kind that recognizes an argument is its kind.

    Attributes:
        description: The kind in words.
        recognizes: Function from a MODEL argument to whether it is of this kind.
        reader: The function that reads a :class:`ModelRequest` and returns a :class:`ReadModel`, as
            ``module:function`` in :mod:`edge_partition.model`. Empty for ``.tflite`` files, which
            need neither TensorFlow nor conversion.
    """

    SAVED_MODEL = ("the folder of a SavedModel", _is_saved_model, "saved_model:read_saved_model")
    TFLITE = ("a .tflite file", _is_tflite, "")
    KERAS_FILE = ("a .keras or .h5 file", _is_keras_file, "read_keras_file:read_file")
    FUNCTION = ("package.module:function", _is_function, "call_function:call_function")
    APPLICATION = (
        "the name of a Keras application", _is_any, "make_application:make_application",
    )  # fmt: skip

    def __init__(self, description: str, recognizes: Callable[[str], bool], reader: str) -> None:
        self.description = description
        self.recognizes = recognizes
        self.reader = reader

    @property
    def needs_conversion(self) -> bool:
        """Whether the model is converted to TFLite, which needs TensorFlow."""
        return bool(self.reader)

    def read(self, request: ModelRequest) -> ReadModel:
        """Read a model of this kind; raises as :func:`.keras_model.load_keras_model`."""
        module, _, function = self.reader.partition(":")
        found: ReadModel = getattr(
            importlib.import_module(f"edge_partition.model.{module}"), function
        )(request)
        return found


def model_kind(source: str) -> ModelKind:
    """Return the kind of a MODEL argument. The file need not exist; case does not matter.

    The function looks on disk only for the two files of a SavedModel.
    """
    return next(kind for kind in ModelKind if kind.recognizes(source))
