"""TensorFlow Lite's metadata, built field by field, in a ``.tflite`` file."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import number_types

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tflite_models import FlatModel

#: A FlatBuffers table: its fields by their number in the schema.
Table: TypeAlias = "dict[int, Any]"


@dataclass
class Scalar:
    value: int
    kind: Any


def byte(value: int) -> Scalar:
    return Scalar(value, number_types.Int8Flags)


def union_type(value: int) -> Scalar:
    return Scalar(value, number_types.Uint8Flags)


def uint(value: int) -> Scalar:
    return Scalar(value, number_types.Uint32Flags)


def image(mean: Sequence[float], std: Sequence[float], *, color_space: int = 1) -> Table:
    """A ``TensorMetadata`` of an image that is normalized."""
    normalization = {0: np.float32(mean), 1: np.float32(std)}
    return {
        0: "image",
        3: {0: union_type(2), 1: {0: byte(color_space)}},
        4: [{0: union_type(1), 1: normalization}],
    }


def labelled(name: str, *files: tuple[str, int, str]) -> Table:
    """A ``TensorMetadata`` with label files, each with name, type and locale."""
    associated = [
        {0: file, 2: byte(kind)} | ({3: locale} if locale else {}) for file, kind, locale in files
    ]
    return {0: name, 6: associated}


def metadata(inputs: list[Table], outputs: list[Table], name: str = "model") -> bytes:
    """Return a ``ModelMetadata`` of one subgraph, as bytes."""
    builder = flatbuffers.Builder()
    root = _pack(builder, {0: name, 1: "Made by hand", 3: [{2: inputs, 3: outputs}]})
    builder.Finish(root, b"M001")
    return bytes(builder.Output())


def with_metadata(
    flat: FlatModel,
    inputs: list[int],
    outputs: list[int],
    raw: bytes | None,
    files: Mapping[str, bytes | str] | None = None,
) -> bytes:
    """Return the file with metadata in a buffer, and with files in an archive at the end."""
    if raw is not None:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(raw, np.uint8)
        flat.model.buffers.append(buffer)
        entry = schema.MetadataT()
        entry.name, entry.buffer = "TFLITE_METADATA", len(flat.model.buffers) - 1
        flat.model.metadata = [entry]
    return with_files(flat.to_bytes(inputs, outputs), files or {})


def with_files(data: bytes, files: Mapping[str, bytes | str]) -> bytes:
    """Return the file with other files in an archive at the end."""
    if not files:
        return data
    stream = io.BytesIO(data)
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def _pack(builder: flatbuffers.Builder, table: Table) -> int:
    offsets = {number: _child(builder, value) for number, value in table.items()}
    builder.StartObject(max(table, default=-1) + 1)
    for number, value in table.items():
        if isinstance(value, Scalar):
            builder.Prepend(value.kind, value.value)
            builder.Slot(number)
        else:
            builder.PrependUOffsetTRelativeSlot(number, offsets[number], 0)
    return int(builder.EndObject())


def _child(builder: flatbuffers.Builder, value: Any) -> int:
    match value:
        case Scalar():
            return 0
        case str():
            return int(builder.CreateString(value))
        case dict():
            return _pack(builder, value)
        case np.ndarray():
            return int(builder.CreateNumpyVector(value))
    children = [_child(builder, item) for item in value]
    builder.StartVector(4, len(children), 4)
    for child in reversed(children):
        builder.PrependUOffsetTRelative(child)
    return int(builder.EndVector())
