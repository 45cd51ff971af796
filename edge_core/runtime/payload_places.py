"""Which bytes of the input and output payloads belong to which tensor of a model's file.

This module is pure: the caller passes the runtime's descriptions of the tensors, and no function
runs a model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from edge_core.contract.manifest import TensorSpec
from edge_core.contract.narrow_floats import to_float16
from edge_core.contract.tensors import wire_dtype
from edge_core.errors import ModelLoadError

if TYPE_CHECKING:
    from collections.abc import Sequence

#: A tensor as the runtime describes it: ``name``, ``index``, ``dtype`` and ``shape``.
Detail: TypeAlias = dict[str, Any]


class InputTensor(NamedTuple):
    """An input tensor of a model's file, read from the stage's input payload.

    Attributes:
        tensor_index: The runtime's index of the tensor.
        place: The tensor's range of bytes in the payload.
        dtype: dtype in the payload.
        shape: Shape, equal in the file and in the payload.
        is_narrowed: Whether the tensor is float16 in the payload and float32 in the file.
    """

    tensor_index: int
    place: slice
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    is_narrowed: bool

    def read(self, payload: memoryview) -> np.ndarray:
        """Return the tensor's values from the input payload, in the dtype of the model's file."""
        values = np.frombuffer(payload[self.place], self.dtype).reshape(self.shape)
        return values.astype(np.float32) if self.is_narrowed else values


class OutputTensor(NamedTuple):
    """An output tensor of a model's file, which the stage sends in its output payload.

    Attributes:
        tensor_index: The runtime's index of the tensor.
        is_narrowed: Whether the tensor is float16 in the payload and float32 in the file.
    """

    tensor_index: int
    is_narrowed: bool

    def encode(self, values: np.ndarray) -> Any:
        """Return ``values``, which the runtime computed, in the dtype of the output payload."""
        return to_float16(values) if self.is_narrowed else values


@dataclass(frozen=True)
class PassedTensor:
    """A tensor of the input payload that the stage passes on to its output payload.

    Attributes:
        place: The tensor's range of bytes in the input payload.
        given: dtype in the input payload.
        wanted: dtype in the output payload.
    """

    place: slice
    given: str
    wanted: str

    def encode(self, payload: memoryview) -> Any:
        """Read the tensor from the input payload; return it in the dtype of the output payload."""
        data = payload[self.place]
        if self.given == self.wanted:
            return data
        values = np.frombuffer(data, wire_dtype(self.given))
        return to_float16(values) if self.wanted == "float16" else values.astype(np.float32)


def find_inputs(
    label: str, details: Sequence[Detail], inputs: Sequence[TensorSpec], *, by_position: bool
) -> list[InputTensor]:
    """Return the inputs of a model's file, each with its range of bytes in a payload of ``inputs``.

    Args:
        label: The model's name in error messages.
        details: The runtime's descriptions of the file's inputs.
        inputs: Tensors of the payload, in order. The file may have fewer inputs.
        by_position: Whether to match ``details`` and ``inputs`` by order instead of by name.

    Raises:
        ModelLoadError: A tensor of the file is not in ``inputs``, or has another dtype or shape.
    """
    wanted = _by_name(details, inputs, by_position=by_position)
    places = _payload_places(inputs)
    missing = wanted.keys() - places.keys()
    if missing:
        raise ModelLoadError(
            f"{label} reads {', '.join(sorted(missing))}; the manifest has only the inputs "
            f"{', '.join(places)}. Split the model again."
        )
    return [
        InputTensor(
            wanted[spec.name]["index"],
            places[spec.name],
            wire_dtype(spec.dtype),
            spec.shape,
            _is_narrowed(label, wanted[spec.name], spec),
        )
        for spec in inputs
        if spec.name in wanted
    ]


def find_outputs(
    label: str,
    details: Sequence[Detail],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    *,
    by_position: bool,
) -> list[OutputTensor | PassedTensor]:
    """Return the source of each tensor in ``outputs``.

    The source is an output of the model's file, or a tensor of the input payload.

    Args:
        label: The model's name in error messages.
        details: The runtime's descriptions of the file's outputs.
        inputs: Tensors of the input payload, in order.
        outputs: Tensors of the output payload, in order.
        by_position: Whether to match ``details`` and ``outputs`` by order instead of by name.

    Raises:
        ModelLoadError: An output has no source, or another dtype or shape in the file.
    """
    made = _by_name(details, outputs, by_position=by_position)
    places = _payload_places(inputs)
    sources: list[OutputTensor | PassedTensor] = []
    for spec in outputs:
        if spec.name in made:
            detail = made[spec.name]
            sources.append(OutputTensor(detail["index"], _is_narrowed(label, detail, spec)))
        elif (given := _find_given(spec, inputs)) is not None:
            sources.append(PassedTensor(places[given.name], given.dtype, spec.dtype))
        else:
            raise ModelLoadError(
                f"{label} has no output {spec}, and the stage's inputs do not have this tensor. "
                "Split the model again."
            )
    return sources


def _by_name(
    details: Sequence[Detail], specs: Sequence[TensorSpec], *, by_position: bool
) -> dict[str, Detail]:
    if not by_position:
        return {detail["name"]: detail for detail in details}
    # A file may list one tensor as two of its outputs.
    distinct = {detail["index"]: detail for detail in details}
    return dict(zip((spec.name for spec in specs), distinct.values(), strict=False))


def _payload_places(specs: Sequence[TensorSpec]) -> dict[str, slice]:
    places = {}
    offset = 0
    for spec in specs:
        places[spec.name] = slice(offset, offset + spec.size_bytes)
        offset += spec.size_bytes
    return places


def _is_narrowed(label: str, detail: Detail, spec: TensorSpec) -> bool:
    found = TensorSpec(
        spec.name, np.dtype(detail["dtype"]).name, tuple(int(size) for size in detail["shape"])
    )
    is_narrowed = (found.dtype, spec.dtype) == ("float32", "float16")
    if found != spec and not (is_narrowed and found.shape == spec.shape):
        raise ModelLoadError(
            f"{label} has the tensor {found}; expected {spec} as in the manifest. "
            "Split the model again."
        )
    return is_narrowed


def _find_given(spec: TensorSpec, inputs: Sequence[TensorSpec]) -> TensorSpec | None:
    """Return the input with the name and shape of ``spec``; None: there is no such input.

    The two dtypes must be equal, or one must be float16 and the other float32.
    """
    if spec in inputs:
        return spec
    for given in inputs:
        if (given.name, given.shape) == (spec.name, spec.shape) and {given.dtype, spec.dtype} == {
            "float32",
            "float16",
        }:
            return given
    return None
