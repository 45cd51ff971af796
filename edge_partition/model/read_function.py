"""Call the user's ``package.module:function``, which returns a Keras model."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_core.errors import EdgePartitionError
from edge_partition.model import keras_setup, legacy_keras  # noqa: F401 -- before Keras
from edge_partition.model.find_reason import find_reason
from edge_partition.model.reader import ReadModel
from edge_partition.model.source_errors import ModelSourceError

if TYPE_CHECKING:
    from edge_partition.model.reader import ModelRequest

_FUNCTION_PATTERN = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def read_function(request: ModelRequest) -> ReadModel:
    """Return the model that the user's function builds.

    The module of the function may be in the working directory.

    Raises:
        ModelSourceError: The function does not exist, fails, or does not return a Keras model.
    """
    return ReadModel(_call_function(request.source), request.source.rpartition(":")[2])


def _call_function(source: str) -> Any:
    if not _FUNCTION_PATTERN.fullmatch(source):
        raise ModelSourceError(source, "expected package.module:function, such as my.models:tiny.")
    module_name, _, function_name = source.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    import keras  # noqa: PLC0415

    try:
        function: Any = importlib.import_module(module_name)
        for part in function_name.split("."):
            function = getattr(function, part)
        if not callable(function):
            raise ModelSourceError(
                source, f"is a {type(function).__name__}; expected a function that returns a model."
            )
        with contextlib.redirect_stdout(io.StringIO()):
            model = function()
    except EdgePartitionError:
        raise
    except Exception as error:  # The function is the user's and may raise any exception.
        raise ModelSourceError(
            source,
            f"failed with {type(error).__name__}: {find_reason(error)}. Call the function in "
            "Python to find the cause.",
        ) from error
    if isinstance(model, keras.Function) and not isinstance(model, keras.Model):
        return keras.Model(model._inputs_struct, model._outputs_struct, name=model.name)  # noqa: SLF001
    if isinstance(model, keras.Model) or legacy_keras.is_keras2_model(model):
        return model
    raise ModelSourceError(source, f"returned a {type(model).__name__}; expected a Keras model.")
