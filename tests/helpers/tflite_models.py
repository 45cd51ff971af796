"""Small ``.tflite`` files, built operator by operator, which no converter makes on demand."""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

_TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "float16": schema.TensorType.FLOAT16,
    "int32": schema.TensorType.INT32,
    "uint8": schema.TensorType.UINT8,
    "bool": schema.TensorType.BOOL,
    "resource": schema.TensorType.RESOURCE,
    "string": schema.TensorType.STRING,
}


class FlatModel:
    """A model under construction; ``tensor`` and ``constant`` return indexes for ``operator``."""

    def __init__(self) -> None:
        self.main = schema.SubGraphT()
        self.main.tensors = []
        self.main.operators = []
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.subgraphs = [self.main]
        self.model.operatorCodes = []
        self.model.buffers = [schema.BufferT()]

    def tensor(
        self,
        name: str,
        shape: tuple[int, ...] = (4,),
        dtype: str = "float32",
        *,
        signature: tuple[int, ...] | None = None,
        variable: bool = False,
    ) -> int:
        tensor = schema.TensorT()
        tensor.name = name
        tensor.shape = np.array(shape, np.int32)
        tensor.type = _TYPES[dtype]
        tensor.isVariable = variable
        if signature is not None:
            tensor.shapeSignature = np.array(signature, np.int32)
        self.main.tensors.append(tensor)
        return len(self.main.tensors) - 1

    def constant(self, name: str, values: np.ndarray) -> int:
        index = self.tensor(name, values.shape, values.dtype.name)
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        self.main.tensors[index].buffer = len(self.model.buffers) - 1
        return index

    def operator(
        self, kind: str, inputs: list[int], outputs: list[int], options: Any = None
    ) -> None:
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.version = 1
        self.model.operatorCodes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.model.operatorCodes) - 1
        operator.inputs = np.array(inputs, np.int32)
        operator.outputs = np.array(outputs, np.int32)
        if options is not None:
            operator.builtinOptions = options
            operator.builtinOptionsType = getattr(
                schema.BuiltinOptions, type(options).__name__.removesuffix("T")
            )
        self.main.operators.append(operator)

    def add(self, left: int, right: int, name: str) -> int:
        made = self.tensor(name)
        self.operator("ADD", [left, right], [made], schema.AddOptionsT())
        return made

    def to_bytes(self, inputs: list[int], outputs: list[int]) -> bytes:
        self.main.inputs = np.array(inputs, np.int32)
        self.main.outputs = np.array(outputs, np.int32)
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def chain_of_adds(names: tuple[str, ...] = ("first", "second", "third")) -> bytes:
    """A model with one input ``x`` that adds constants, then ``x`` again at the end."""
    flat = FlatModel()
    x = flat.tensor("x")
    last = x
    for number, name in enumerate(names):
        weight = flat.constant(f"{name}/weight", np.arange(4, dtype=np.float32) + number)
        last = flat.add(last, weight, name)
    return flat.to_bytes([x], [flat.add(last, x, "sum")])


def stateful() -> bytes:
    """``first = x + x`` written to a variable, read back, and ``last = read + x``."""
    flat = FlatModel()
    x = flat.tensor("x")
    first = flat.add(x, x, "first")
    handle = flat.tensor("handle", (), "resource")
    flat.operator("VAR_HANDLE", [], [handle], schema.VarHandleOptionsT())
    flat.operator("ASSIGN_VARIABLE", [handle, first], [], schema.AssignVariableOptionsT())
    read = flat.tensor("read")
    flat.operator("READ_VARIABLE", [handle], [read], schema.ReadVariableOptionsT())
    return flat.to_bytes([x], [flat.add(read, x, "last")])
