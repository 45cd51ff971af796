"""A ``.tflite`` file with two signatures, built operator by operator."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from tflite_models import FlatModel


def add_signature(
    flat: FlatModel, name: str, inputs: dict[str, int], outputs: dict[str, int], subgraph: int
) -> None:
    signature = schema.SignatureDefT()
    signature.signatureKey = name
    signature.subgraphIndex = subgraph
    signature.inputs, signature.outputs = (
        [_map(argument, index) for argument, index in ends.items()] for ends in (inputs, outputs)
    )
    flat.model.signatureDefs = [*(flat.model.signatureDefs or ()), signature]


def start_subgraph(flat: FlatModel, inputs: list[int], outputs: list[int]) -> None:
    """End the current subgraph, and start another subgraph."""
    flat.main.inputs, flat.main.outputs = np.int32(inputs), np.int32(outputs)
    flat.main = schema.SubGraphT()
    flat.main.tensors, flat.main.operators = [], []
    flat.model.subgraphs.append(flat.main)


def two_signatures(first: str = "encode", second: str = "decode") -> bytes:
    """Return a file: ``first`` adds and doubles; ``second`` negates or adds 7, then adds.

    ``second`` negates if ``flag`` is true. Its branches are subgraphs 2 and 3. Both signatures use
    the same weight.
    """
    flat = FlatModel()
    x = flat.tensor("encode_x")
    weight = np.arange(4, dtype=np.float32)
    shifted = flat.add(x, flat.constant("weight", weight), "encode/shift/add")
    shared_buffer = len(flat.model.buffers) - 1
    code = flat.add(shifted, shifted, "encode/double/add")
    add_signature(flat, first, {"x": x}, {"code": code}, 0)

    start_subgraph(flat, [x], [code])
    flag, given = flat.tensor("flag", (1,), "bool"), flat.tensor("decode_code")
    branch = flat.tensor("decode/branch/If")
    options = schema.IfOptionsT()
    options.thenSubgraphIndex, options.elseSubgraphIndex = 2, 3
    flat.operator("IF", [flag, given], [branch], options)
    again = flat.tensor("weight")
    flat.main.tensors[again].buffer = shared_buffer
    y = flat.add(branch, again, "decode/shift/add")
    add_signature(flat, second, {"code": given, "flag": flag}, {"y": y}, 1)

    start_subgraph(flat, [flag, given], [y])
    inner = flat.tensor("inner")
    negated = flat.tensor("negated")
    flat.operator("NEG", [inner], [negated], schema.NegOptionsT())
    start_subgraph(flat, [inner], [negated])
    inner = flat.tensor("inner")
    return flat.to_bytes([inner], [flat.add(inner, flat.constant("seven", 7 + weight), "sum")])


def _map(name: str, index: int) -> schema.TensorMapT:
    item = schema.TensorMapT()
    item.name, item.tensorIndex = name, index
    return item
