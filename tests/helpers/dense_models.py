"""Models of dense layers, built as flatbuffers without a converter."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge_core.contract.manifest import Manifest, ModelInfo, Predicted, Stage, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Pipeline:
    """A manifest, the stages' files, and the model in numpy."""

    manifest: Manifest
    files: tuple[bytes, ...]
    weights: tuple[np.ndarray, ...]
    repeats: int

    def tensors(self, seed: int) -> list[np.ndarray]:
        """Return a random input and the output of each stage."""
        spec = self.manifest.inputs[0]
        made = [np.random.default_rng(seed).standard_normal(spec.shape).astype(np.float32)]
        for weight in self.weights:
            after = made[-1]
            for _ in range(self.repeats):
                after = after @ weight.T
            made.append(after)
        return made


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def make_pipeline(
    deployment: str,
    devices: Sequence[Sequence[str]],
    *,
    generation: str = "g1",
    seed: int = 1,
    sizes: Sequence[int] = (8, 6, 4),
    rows: int = 1,
    repeats: int = 1,
    ram_bytes: int = 1024 * 1024,
) -> Pipeline:
    """Return one dense stage for each item of ``devices``; ``repeats`` makes stages slow."""
    random = np.random.default_rng(seed)
    specs = [
        TensorSpec(f"t{i}", "float32", (rows, size))
        for i, size in enumerate(sizes[: len(devices) + 1])
    ]
    weights = tuple(
        (random.standard_normal((after.shape[1], before.shape[1])) / before.shape[1] ** 0.5).astype(
            np.float32
        )
        for before, after in itertools.pairwise(specs)
    )
    files = tuple(
        _dense(before, after, weight, repeats)
        for before, after, weight in zip(specs, specs[1:], weights, strict=False)
    )
    stages = tuple(
        Stage(
            index=i,
            devices=tuple(names),
            file=f"stages/{i}.tflite",
            sha256=sha256(files[i]),
            size_bytes=len(files[i]),
            inputs=(specs[i],),
            outputs=(specs[i + 1],),
            predicted=Predicted(1.0, ram_bytes),
        )
        for i, names in enumerate(devices)
    )
    manifest = Manifest(
        deployment,
        generation,
        ModelInfo("dense", sha256(b"".join(files)), "none", "seeded"),
        (specs[0],),
        (specs[-1],),
        stages,
    )
    return Pipeline(manifest, files, weights, repeats)


def _dense(before: TensorSpec, after: TensorSpec, weight: np.ndarray, repeats: int) -> bytes:
    """Return a file that multiplies by ``weight`` (square if repeated) ``repeats`` times."""
    model, graph = schema.ModelT(), schema.SubGraphT()
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(weight.tobytes(), np.uint8)
    model.version, model.buffers, model.subgraphs = 3, [schema.BufferT(), buffer], [graph]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    code.version = 1
    model.operatorCodes = [code]
    graph.tensors, graph.operators = [], []

    def tensor(name: str, shape: Sequence[int], buffer_index: int = 0) -> int:
        made = schema.TensorT()
        made.name, made.shape = name, np.array(shape, np.int32)
        made.type, made.buffer = schema.TensorType.FLOAT32, buffer_index
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    last = first = tensor(before.name, before.shape)
    weight_index = tensor("weight", weight.shape, 1)
    for repeat in range(repeats):
        name = after.name if repeat == repeats - 1 else f"{after.name}/{repeat}"
        made = tensor(name, after.shape)
        operator = schema.OperatorT()
        operator.opcodeIndex = 0
        operator.inputs = np.array([last, weight_index, -1], np.int32)
        operator.outputs = np.array([made], np.int32)
        operator.builtinOptions = schema.FullyConnectedOptionsT()
        operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
        graph.operators.append(operator)
        last = made
    graph.inputs, graph.outputs = np.array([first], np.int32), np.array([last], np.int32)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
