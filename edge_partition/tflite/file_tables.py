"""Read the tables of a ``.tflite`` file. The file may be damaged or malicious.

Indexes and offsets are checked before their use. For other faults of the data,
:func:`malformed_as_invalid` raises :class:`InvalidModelError`. The format is a FlatBuffer with the
schema ``schema.fbs`` of TensorFlow Lite; the Python accessors are LiteRT's ``schema_py_generated``.
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

#: Exceptions that the FlatBuffers accessors raise on damaged data.
_MALFORMED = (
    struct.error, IndexError, KeyError, ValueError, TypeError, AttributeError, OverflowError,
    AssertionError, RecursionError, MemoryError,
)  # fmt: skip

#: Name of each builtin operator, by its number in the file.
BUILTIN_KINDS: dict[int, str] = {
    value: name for name, value in vars(schema.BuiltinOperator).items() if name.isupper()
}


class InvalidModelError(EdgePartitionError):
    """The bytes are not a TFLite model, or the model cannot be split; the message says why."""


def cannot_split(model_name: str, reason: str) -> InvalidModelError:
    """Return the error for a model that cannot be split.

    Args:
        model_name: The model's name.
        reason: A clause without its final period.
    """
    return InvalidModelError(f"{model_name} cannot be split: {reason}.")


def map_file(path: Path) -> Bytes:
    """Return a file's bytes as a memory map; an empty file gives ``b""``.

    The file must not change while the map is in use.

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
    """Run a block, and convert the accessors' exceptions to :class:`InvalidModelError`.

    Args:
        name: The model's name, for the error.

    Raises:
        InvalidModelError: An accessor raised an exception because the file is damaged.
    """
    try:
        yield
    except _MALFORMED as error:
        raise InvalidModelError(
            f"{name} is damaged: its tables cannot be read ({type(error).__name__}: "
            f"{' '.join(str(error).split())}). Copy or convert the model again."
        ) from error


def buffer_bytes(model: Any, index: int, data: Bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a view of a buffer's bytes, as a uint8 array of shape ``(n,)``.

    In a model over 2 GB, the buffers' bytes follow the FlatBuffer in the file.

    Args:
        model: The root table (``schema_py_generated.Model``).
        index: The buffer's number.
        data: The file's bytes.

    Raises:
        InvalidModelError: The buffer does not exist, or is not within the file.
    """
    if not 0 <= index < model.BuffersLength():
        raise InvalidModelError(
            f"The model is damaged: a table refers to buffer {index}, but the file has only "
            f"{model.BuffersLength()} buffers. Copy or convert the model again."
        )
    buffer = model.Buffers(index)
    # With offset 0 or 1, the bytes are in the FlatBuffer (schema.fbs, table Buffer).
    offset, size = buffer.Offset(), buffer.Size()
    if offset > 1:
        return file_bytes(data, offset, size)
    view = buffer.DataAsNumpy()
    return np.empty(0, np.uint8) if isinstance(view, int) else view


def file_bytes(data: Bytes, offset: int, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a view of ``size`` bytes at ``offset`` of the file, as a uint8 array.

    Raises:
        InvalidModelError: The bytes are not within the file.
    """
    if offset + size > len(data):
        raise InvalidModelError(
            f"The model is damaged: a buffer is at bytes {offset:,} to {offset + size:,}, but the "
            f"file has only {len(data):,} bytes. Copy or convert the model again."
        )
    return np.frombuffer(data, np.uint8, count=size, offset=offset)


def numbers(vector: Any) -> tuple[int, ...]:
    """Convert the result of an integer accessor (``...AsNumpy``) to a tuple."""
    # The accessors return 0 for an absent list.
    return () if isinstance(vector, int) else tuple(vector.tolist())


def operator_kind(code: Any) -> str:
    """Return the operator name of an ``OperatorCode`` table.

    For a custom operator, this is the custom code; for an unknown operator, ``BUILTIN_`` and the
    operator's number.
    """
    # Files from before 2020 have only the deprecated field (schema.fbs, table OperatorCode).
    value = max(code.DeprecatedBuiltinCode(), code.BuiltinCode())
    if value == schema.BuiltinOperator.CUSTOM:
        custom_code: bytes = code.CustomCode() or b"CUSTOM"
        return custom_code.decode(errors="replace")
    return BUILTIN_KINDS.get(value, f"BUILTIN_{value}")


def call_fields(operator: Any) -> list[tuple[Any, str, tuple[int, ...]]]:
    """Return the fields of an ``OperatorT`` that contain the numbers of called subgraphs.

    Returns:
        For each field: the options object, the field's name, and the numbers of the subgraphs. A
        list field (``branchSubgraphIndices``) may have several numbers; any other field has one
        number. A field that contains -1, which means no subgraph, is left out.
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
    """Return the numbers of the subgraphs that an operator calls.

    Args:
        table: The operator's table (``schema_py_generated.Operator``).
    """
    operator = schema.OperatorT.InitFromObj(table)
    return tuple(index for _, _, called in call_fields(operator) for index in called)
