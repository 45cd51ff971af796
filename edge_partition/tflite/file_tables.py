"""Safe access to the tables of a ``.tflite`` file.

The file may come from anyone. Every function here checks an index or an offset before its use, so
that damaged bytes raise :class:`InvalidModelError`. The format is TensorFlow Lite's ``schema.fbs``
in a FlatBuffer; the accessors are those of LiteRT.
"""

from __future__ import annotations

import mmap
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge_core.errors import EdgePartitionError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILE_IDENTIFIER = b"TFL3"

Bytes: TypeAlias = bytes | mmap.mmap

#: Exceptions of the FlatBuffers accessors on offsets outside the file.
_MALFORMED = (
    struct.error, IndexError, KeyError, ValueError, TypeError, AttributeError, OverflowError,
    AssertionError, RecursionError, MemoryError,
)  # fmt: skip

#: Names of the builtin operators by their number in the file.
BUILTIN_KINDS: dict[int, str] = {
    value: name for name, value in vars(schema.BuiltinOperator).items() if name.isupper()
}


class InvalidModelError(EdgePartitionError):
    """The bytes are not a TFLite model that can be split; the message names the fault."""


def cannot_split(model_name: str, reason: str) -> InvalidModelError:
    """Return the error for a model that is readable and still cannot be split.

    Args:
        model_name: The model's name.
        reason: A clause without its final period.
    """
    return InvalidModelError(f"{model_name} cannot be split: {reason}.")


def map_file(path: Path) -> Bytes:
    """Return a file's bytes as a memory map; the file must not change while the map is in use.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        try:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # an empty file cannot be mapped
            return b""


@contextmanager
def malformed_as_invalid(name: str) -> Iterator[None]:
    """Turn the accessors' exceptions on damaged bytes into :class:`InvalidModelError`."""
    try:
        yield
    except _MALFORMED as error:
        raise InvalidModelError(
            f"{name} is damaged: its tables lead outside the file ({type(error).__name__}: "
            f"{' '.join(str(error).split())}). Copy or convert the model again."
        ) from error


def buffer_bytes(model: Any, index: int, data: Bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a view of a buffer's bytes, inside or (models over 2 GB) behind the FlatBuffer.

    Args:
        model: The root table (``schema_py_generated.Model``).
        index: The buffer's number.
        data: The file's bytes.

    Raises:
        InvalidModelError: The buffer does not exist or lies outside the file.
    """
    if not 0 <= index < model.BuffersLength():
        raise InvalidModelError(
            f"A tensor names buffer {index}; the model has {model.BuffersLength()} buffers."
        )
    buffer = model.Buffers(index)
    # Offsets 0 and 1 mean "none" (schema.fbs, table Buffer).
    offset, size = buffer.Offset(), buffer.Size()
    if offset > 1:
        return file_bytes(data, offset, size)
    view = buffer.DataAsNumpy()
    return np.empty(0, np.uint8) if isinstance(view, int) else view


def file_bytes(data: Bytes, offset: int, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a view of ``size`` bytes at ``offset`` of the file.

    Raises:
        InvalidModelError: The bytes lie outside the file.
    """
    if offset + size > len(data):
        raise InvalidModelError(
            f"A buffer lies at bytes {offset:,} to {offset + size:,}; "
            f"the file ends at {len(data):,}."
        )
    return np.frombuffer(data, np.uint8, count=size, offset=offset)


def numbers(vector: Any) -> tuple[int, ...]:
    """Return a vector of integers, read with an ``...AsNumpy`` accessor, as a tuple."""
    # The accessors return 0 for a vector that is absent.
    return () if isinstance(vector, int) else tuple(vector.tolist())


def operator_kind(code: Any) -> str:
    """Return an ``OperatorCode``'s operator name; for a custom operator, its custom code."""
    # Files from before 2020 have only the deprecated field (schema.fbs, table OperatorCode).
    value = max(code.DeprecatedBuiltinCode(), code.BuiltinCode())
    if value == schema.BuiltinOperator.CUSTOM:
        custom_code: bytes = code.CustomCode() or b"CUSTOM"
        return custom_code.decode(errors="replace")
    return BUILTIN_KINDS.get(value, f"BUILTIN_{value}")


def call_fields(operator: Any) -> list[tuple[Any, str, tuple[int, ...]]]:
    """Return the fields in which an ``OperatorT`` names the subgraphs that it calls.

    Returns:
        For each field: the options object, the field's name, and the numbers of the subgraphs: one
        number, or several for a list field (``branchSubgraphIndices``). A field of -1 means no
        subgraph and is left out.
    """
    found: list[tuple[Any, str, tuple[int, ...]]] = []
    for options in (operator.builtinOptions, operator.builtinOptions2):
        for field, value in vars(options).items() if options is not None else ():
            lowered = field.lower()
            if lowered == "subgraph" or (lowered.endswith("subgraphindex") and value >= 0):
                found.append((options, field, (int(value),)))
            elif lowered.endswith("subgraphindices") and value is not None:
                found.append((options, field, tuple(int(index) for index in value)))
    return found


def called_subgraphs(table: Any) -> tuple[int, ...]:
    """Return the numbers of the subgraphs that an ``Operator`` table calls."""
    operator = schema.OperatorT.InitFromObj(table)
    return tuple(index for _, _, called in call_fields(operator) for index in called)
