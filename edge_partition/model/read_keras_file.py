"""Read the model in a ``.keras`` or ``.h5`` file that Keras 3 or Keras 2 wrote."""

from __future__ import annotations

import contextlib
import io
import re
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_core.errors import EdgePartitionError
from edge_partition.facts.read_labels import read_labels
from edge_partition.model import (
    keras_setup,  # noqa: F401 -- before Keras
    legacy_keras,
)
from edge_partition.model.find_reason import find_reason
from edge_partition.model.reader import ReadModel
from edge_partition.model.source_errors import ModelSourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_partition.model.reader import ModelRequest

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def read_keras_file(request: ModelRequest) -> ReadModel:
    """Read the model in a Keras file, and the class names in the labels file beside the Keras file.

    Keras 2 reads the files that Keras 2 wrote. If Keras 2 is not installed or fails, Keras 3 tries
    to read the file. The file's content determines the format. The ending of the file's name has
    no influence.

    Raises:
        ModelSourceError: The file does not exist or cannot be read.
    """
    path = Path(request.source)
    model, notes = _read_model(request.source)
    return ReadModel(model, path.stem, labels=read_labels(path), notes=notes)


def _read_model(source: str) -> tuple[Any, tuple[str, ...]]:
    """Return the Keras 3 or Keras 2 model in a file, and notes for the user."""
    if not Path(source).is_file():
        raise ModelSourceError(source, "no such file; expected a .keras, .h5 or .tflite file.")
    if source.lower().endswith(".weights.h5"):
        raise ModelSourceError(
            source,
            "contains weights but no model. Give the model's file or name as MODEL, and give this "
            "file with --weights.",
        )
    version = legacy_keras.keras_version(source)
    is_keras2 = legacy_keras.is_keras2_version(version)
    with _with_matching_ending(source) as path, contextlib.redirect_stdout(io.StringIO()):
        keras2_error: Exception | None = None
        if is_keras2 and legacy_keras.is_installed():
            try:
                return legacy_keras.read_keras2_file(path), ()
            except Exception as error:  # noqa: BLE001 -- Keras 3 may read the file instead
                keras2_error = error
        try:
            model = _read_keras3(path)
        except EdgePartitionError:
            raise
        except Exception as error:  # Keras documents no type, and passes on others' errors.
            problem = (
                _explain_unreadable(keras2_error)
                if keras2_error is not None
                else _explain_version(version, error) or _explain_unreadable(error)
            )
            raise ModelSourceError(source, problem) from error
    _check_kind(source, model)
    if not is_keras2:
        return model, ()
    if changed := legacy_keras.changed_function(source):
        raise ModelSourceError(
            source,
            f"was written by Keras 2 ({version}), and Keras 3 computes {changed} differently. "
            f"{legacy_keras.KERAS2_ADVICE}",
        )
    note = (
        f"{Path(source).name} was written by Keras 2 ({version}) and read by Keras 3, so outputs "
        "may differ slightly. To read the file with Keras 2, run `pip install tf-keras`."
    )
    return model, (note,)


def _explain_version(version: str, error: Exception) -> str:
    """Return why Keras cannot read a file; ``""`` if the version of Keras is not the reason.

    Args:
        version: Version of Keras that wrote the file, such as ``3.15.1``; ``""`` if unknown.
        error: The error that the installed Keras raised for the file.
    """
    import keras  # noqa: PLC0415

    def numbers(text: str) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", text)[:3]]

    reason = find_reason(error)
    if legacy_keras.is_keras2_version(version):
        return (
            f"was written by Keras 2 ({version}), and Keras 3 cannot read it ({reason}). "
            f"{legacy_keras.KERAS2_ADVICE}"
        )
    if numbers(version) > numbers(keras.__version__):
        return (
            f"was written by Keras {version}, and the installed Keras {keras.__version__} is older "
            f"and cannot read it ({reason}). Install a newer Keras with `pip install -U keras`, or "
            "convert the model to .tflite where it was built."
        )
    return ""


def _read_keras3(path: str) -> Any:
    import keras  # noqa: PLC0415 -- takes seconds

    # The import registers OperationLayer, the layer in wrapped models, with Keras.
    from edge_partition.model import operation_layer  # noqa: F401, PLC0415

    return keras.saving.load_model(path, compile=False, safe_mode=True)


def _check_kind(source: str, model: Any) -> None:
    import keras  # noqa: PLC0415

    if not isinstance(model, keras.Model):
        raise ModelSourceError(
            source,
            f"contains a {type(model).__name__}; expected a Keras model. Save a Keras model with "
            "model.save.",
        )


@contextlib.contextmanager
def _with_matching_ending(source: str) -> Iterator[str]:
    """Yield a path to the file, with the ending that Keras requires for the file's content.

    If the file's name has another ending, the path is a temporary symbolic link to the file.
    """
    is_zip = zipfile.is_zipfile(source)
    with Path(source).open("rb") as file:
        is_hdf5 = file.read(len(_HDF5_SIGNATURE)) == _HDF5_SIGNATURE
    if not (is_zip or is_hdf5):
        says = "a zip archive" if source.lower().endswith(".keras") else "an HDF5 file"
        raise ModelSourceError(
            source,
            f"is not {says}, although its name ends in {Path(source).suffix}; the file may be "
            "damaged or cut short. Copy the file again, or save the model again.",
        )
    ending = ".keras" if is_zip else ".h5"
    if source.endswith(ending) or (is_hdf5 and source.endswith(".hdf5")):
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="edge-partition-") as folder:
        link = Path(folder) / f"{Path(source).stem}{ending}"
        link.symlink_to(Path(source).resolve())
        yield str(link)


def _explain_unreadable(error: Exception) -> str:
    text = str(error)
    if "safe_mode" in text or "unsafe" in text.lower():
        return (
            "contains Python code (a Lambda layer), and edge-partition runs no code from a file. "
            "Build the model with keras.ops or a registered layer instead, or give the function "
            "that builds the model as package.module:function."
        )
    if (match := re.search(r"Unknown layer: '?(\w+)", text)) and _is_operation(match[1]):
        return (
            f"has operations that are not layers, such as {match[1]}. An .h5 file cannot store "
            "such operations. Save the model as .keras where it was built, or give the function "
            "that builds the model as package.module:function."
        )
    if match := re.search(
        r"(?:Could not locate (?:class|function)|Unknown (?:layer|object|\w+ function):?) "
        r"'?([\w.>]+)",
        text,
    ):
        return (
            f"needs {match[1]}, which Keras does not know. Write a function that imports "
            f"{match[1]} and loads the file, and give the function as package.module:function."
        )
    # Keras raises one of the two messages, depending on the arguments of the operation.
    if any(
        words in text
        for words in (
            "Only input tensors may be passed as positional arguments",
            "too many positional arguments",
        )
    ):
        return (
            "has operations that are not layers. An .h5 file cannot store the constants of such "
            "operations. Save the model as .keras where it was built, or give the function that "
            "builds the model as package.module:function."
        )
    if "No model config found" in text or "No model found in config" in text:
        return (
            "contains weights but no model. Give the model's file or name as MODEL, and give this "
            "file with --weights."
        )
    return (
        f"cannot be read as a Keras model ({find_reason(error)}). Copy the file again, or save "
        "the model as .keras where it was built."
    )


def _is_operation(name: str) -> bool:
    """Return whether ``name`` is the class name of a Keras operation that is not a layer."""
    import keras  # noqa: PLC0415

    modules = [keras.src.ops.numpy, keras.src.ops.nn, keras.src.ops.core, keras.src.ops.math]
    return any(isinstance(getattr(module, name, None), type) for module in modules)
