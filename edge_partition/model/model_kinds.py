"""The kinds of MODEL argument, found from the argument and the files that it names."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

#: The endings of files that Keras reads.
KERAS_ENDINGS = (".keras", ".h5", ".hdf5")

_TFLITE_ENDING = ".tflite"
_SAVED_MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt")


class ModelKind(Enum):
    """A kind of MODEL argument. All but ``TFLITE`` need TensorFlow."""

    TFLITE = "a .tflite file"
    SAVED_MODEL = "the folder of a SavedModel"
    KERAS_FILE = "a .keras or .h5 file"
    FUNCTION = "package.module:function"
    APPLICATION = "the name of a Keras application"


def model_kind(source: str) -> ModelKind:
    """Return the kind of a MODEL argument. The file need not exist; case does not matter.

    The function looks on disk only for the two files of a SavedModel.
    """
    if any((Path(source) / name).is_file() for name in _SAVED_MODEL_FILES):
        return ModelKind.SAVED_MODEL
    if source.lower().endswith(_TFLITE_ENDING):
        return ModelKind.TFLITE
    if source.lower().endswith(KERAS_ENDINGS):
        return ModelKind.KERAS_FILE
    if ":" in source:
        return ModelKind.FUNCTION
    return ModelKind.APPLICATION
