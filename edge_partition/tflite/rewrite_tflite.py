"""Change a ``.tflite`` file without a new conversion: rename tensors, fix shapes, keep a signature.

:func:`rewrite_tensors` leaves operators, options, quantization, weights, signatures and metadata
unchanged. Files packed behind the model (:mod:`~edge_partition.tflite.packed_files`) are not
copied.
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
    """Return a model whose main subgraph's tensors have other names or shapes.

    Buffers are copied once, whatever their size.

    Args:
        data: A ``.tflite`` file.
        names: New names by tensor index, without NUL, at which the runtime would end the name.
        shapes: New dimensions by tensor index, -1 for an open dimension. They are written to
            ``shape`` (1 for an open dimension) and, if a dimension is open, to
            ``shape_signature``; ``has_rank`` is set.
        model_name: The model's name, for errors.

    Raises:
        InvalidModelError: The file is damaged, or an index names no tensor.
        FileTooLargeError: The file would be over 2 GB.
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
    """Return a model whose main subgraph is that of one signature of ``data``.

    The model has only this signature, the subgraphs that its subgraph calls, and the buffers and
    operator codes in use. The file's metadata describes the whole file and is left out.

    Args:
        data: A ``.tflite`` file.
        name: The signature's name.
        model_name: The model's name, for errors.

    Raises:
        InvalidModelError: The file is damaged, or has no such signature.
        FileTooLargeError: The file would be over 2 GB.
    """
    with malformed_as_invalid(model_name):
        source = schema.Model.GetRootAs(data)
        signature = _signature(source, name, model_name)
        copier = TableCopier(source, data)
        copier.subgraph(signature.subgraphIndex)
        signature.subgraphIndex = 0
        return copier.to_bytes(model_name, [signature])


def _unpacked(source: Any, data: Bytes) -> Any:
    """Return a file as a ``ModelT`` whose buffers are views."""
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
    """Return the ``SignatureDefT`` named ``name``, after a check that its subgraph exists."""
    count = source.SubgraphsLength()
    for index in range(source.SignatureDefsLength()):
        table = source.SignatureDefs(index)
        if (table.SignatureKey() or b"").decode(errors="replace") == name:
            if not 0 <= table.SubgraphIndex() < count:
                raise InvalidModelError(
                    f"{model_name}: signature {name!r} names subgraph {table.SubgraphIndex()}; "
                    f"the file has {count}."
                )
            return schema.SignatureDefT.InitFromObj(table)
    raise InvalidModelError(f"{model_name} has no signature {name!r}.")
