"""Make models of a few operators as TFLite flatbuffers, without a converter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

if TYPE_CHECKING:
    from collections.abc import Sequence

ADDED = 1.5
_FLOAT_BYTES = 4


def add_model(size_bytes: int) -> bytes:
    """Return a model that adds :data:`ADDED` to a float32 vector of ``size_bytes`` bytes."""
    count = size_bytes // _FLOAT_BYTES
    return _chain("ADD", np.full((1, 1), ADDED, np.float32), (1, count), (1, count), 1)


def widen_model(size_bytes: int) -> bytes:
    """Return a model of one ADD with an input of 4 bytes and an output of ``size_bytes`` bytes."""
    count = size_bytes // _FLOAT_BYTES
    return _chain("ADD", np.full((1, count), ADDED, np.float32), (1, 1), (1, count), 1)


def slow_model(repeats: int, width: int = 512) -> bytes:
    """Return a model that multiplies a vector by the same matrix ``repeats`` times.

    The vector has ``width`` float32 values: 2 kB by default, in the input and in the output.
    """
    matrix = np.random.default_rng(1).standard_normal((width, width)).astype(np.float32)
    return _chain("FULLY_CONNECTED", matrix / width**0.5, (1, width), (1, width), repeats)


def _chain(
    operator: str,
    constant: np.ndarray,
    input_shape: Sequence[int],
    output_shape: Sequence[int],
    repeats: int,
) -> bytes:
    """Return a file with ``repeats`` equal operators in a chain.

    The inputs of each operator are the constant and the output of the operator before.
    """
    model, graph = schema.ModelT(), schema.SubGraphT()
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(constant.tobytes(), np.uint8)
    model.version, model.buffers, model.subgraphs = 3, [schema.BufferT(), buffer], [graph]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, operator)
    code.version = 1
    model.operatorCodes = [code]
    graph.tensors = [_tensor("input", input_shape, 0), _tensor("constant", constant.shape, 1)]
    graph.operators = []
    last = 0
    for number in range(repeats):
        graph.tensors.append(_tensor(f"output_{number}", output_shape, 0))
        made = schema.OperatorT()
        made.opcodeIndex = 0
        made.inputs = np.array([last, 1] + [-1] * (operator == "FULLY_CONNECTED"), np.int32)
        last = len(graph.tensors) - 1
        made.outputs = np.array([last], np.int32)
        if operator == "ADD":
            made.builtinOptionsType = schema.BuiltinOptions.AddOptions
            made.builtinOptions = schema.AddOptionsT()
        else:
            made.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
            made.builtinOptions = schema.FullyConnectedOptionsT()
        graph.operators.append(made)
    graph.inputs, graph.outputs = np.array([0], np.int32), np.array([last], np.int32)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _tensor(name: str, shape: Sequence[int], buffer: int) -> schema.TensorT:
    made = schema.TensorT()
    made.name, made.shape = name, np.array(shape, np.int32)
    made.type, made.buffer = schema.TensorType.FLOAT32, buffer
    return made
