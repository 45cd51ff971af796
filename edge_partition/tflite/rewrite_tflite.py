"""Rename tensors, change shapes, or extract one signature in a ``.tflite`` file.

The model is not converted again. :func:`rewrite_tensors` leaves operators, options, quantization,
weights, signatures and metadata unchanged. The ZIP archive that may follow the model
(:mod:`~edge_partition.tflite.packed_files`) is not copied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge_partition.tflite.copy_tables import BufferView, TableCopier, embed_options, pack_model
from edge_partition.tflite.file_tables import InvalidModelError, buffer_bytes, malformed_as_invalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge_partition.tflite.file_tables import Bytes


def rewrite_tensors(
    data: Bytes,
    *,
    names: Mapping[int, str] | None = None,
    shapes: Mapping[int, tuple[int, ...]] | None = None,
    model_name: str = "the model",
) -> bytes:
    """Return a copy of a ``.tflite`` file in which tensors have new names or shapes.

    Only tensors of the main subgraph change. Each buffer is copied only once, into the result.

    Args:
        data: A ``.tflite`` file.
        names: New names, by tensor index. A name must not contain NUL: the runtime would read the
            name only up to NUL.
        shapes: New shapes, by tensor index; -1 is an open dimension (a dimension without a fixed
            size). The field ``shape`` gets the new shape, with 1 for an open dimension. The field
            ``shape_signature`` gets the new shape if a dimension is open; otherwise it is removed.
            The field ``has_rank`` becomes true.
        model_name: The model's name, for errors.

    Raises:
        InvalidModelError: The file is damaged, or has no tensor with one of the indexes.
        FileTooLargeError: The new file would be over 2 GB.
    """
    names, shapes = names or {}, shapes or {}
    with malformed_as_invalid(model_name):
        source = schema.Model.GetRootAs(data)
        main = source.Subgraphs(0)
        for index in (*names, *shapes):
            if not 0 <= index < main.TensorsLength():
                raise InvalidModelError(
                    f"{model_name} has no tensor {index}; it has {main.TensorsLength()} tensors."
                )
        tables = _unpacked(source, data)
        tensors = tables.subgraphs[0].tensors
        for index, name in names.items():
            tensors[index].name = name
        for index, shape in shapes.items():
            sizes = np.array(shape, np.int32)
            tensors[index].shape = np.where(sizes < 0, np.int32(1), sizes)
            tensors[index].shapeSignature = sizes if -1 in shape else None
            tensors[index].hasRank = True
        return pack_model(tables, model_name)


def keep_signature(data: Bytes, name: str, *, model_name: str = "the model") -> bytes:
    """Return a ``.tflite`` file that contains only one signature of ``data``.

    The signature's subgraph becomes the main subgraph of the new file. The new file also contains
    the subgraphs that the main subgraph calls, and the buffers and operator codes that these
    subgraphs use. Metadata about the original file is left out.

    Args:
        data: A ``.tflite`` file.
        name: The signature's name.
        model_name: The model's name, for errors.

    Raises:
        InvalidModelError: The file is damaged, or has no such signature.
        FileTooLargeError: The new file would be over 2 GB.
    """
    with malformed_as_invalid(model_name):
        source = schema.Model.GetRootAs(data)
        signature = _signature(source, name, model_name)
        copier = TableCopier(source, data)
        copier.subgraph(signature.subgraphIndex)
        signature.subgraphIndex = 0
        return copier.to_bytes(model_name, [signature])


def _unpacked(source: Any, data: Bytes) -> Any:
    """Return a file's tables as a ``ModelT``; its buffers are views of ``data``."""
    tables = schema.ModelT()
    tables.version = source.Version()
    tables.description = source.Description()
    tables.operatorCodes = _all(
        schema.OperatorCodeT, source.OperatorCodes, source.OperatorCodesLength()
    )
    tables.subgraphs = _all(schema.SubGraphT, source.Subgraphs, source.SubgraphsLength())
    tables.metadata = _all(schema.MetadataT, source.Metadata, source.MetadataLength())
    tables.signatureDefs = _all(
        schema.SignatureDefT, source.SignatureDefs, source.SignatureDefsLength()
    )
    if not source.MetadataBufferIsNone():
        tables.metadataBuffer = source.MetadataBufferAsNumpy()
    tables.buffers = [
        BufferView(buffer_bytes(source, index, data)) for index in range(source.BuffersLength())
    ]
    for subgraph in tables.subgraphs:
        for op in subgraph.operators or ():
            embed_options(op, data)
    return tables


def _all(kind: Any, read: Any, count: int) -> list[Any]:
    return [kind.InitFromObj(read(index)) for index in range(count)]


def _signature(source: Any, name: str, model_name: str) -> Any:
    """Return the signature called ``name``, as a ``SignatureDefT``.

    Raises:
        InvalidModelError: There is no such signature, or its subgraph does not exist.
    """
    count = source.SubgraphsLength()
    for index in range(source.SignatureDefsLength()):
        table = source.SignatureDefs(index)
        if (table.SignatureKey() or b"").decode(errors="replace") == name:
            if not 0 <= table.SubgraphIndex() < count:
                raise InvalidModelError(
                    f"{model_name}: signature {name!r} runs subgraph {table.SubgraphIndex()}, but "
                    f"the file has only {count} subgraphs. Convert the model again."
                )
            return schema.SignatureDefT.InitFromObj(table)
    raise InvalidModelError(f"{model_name} has no signature {name!r}.")
