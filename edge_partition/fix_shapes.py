"""Fix the open dimensions of a ``.tflite`` file, in its bytes.

A converter writes -1 into a tensor's ``shape_signature`` where a size is open (TensorFlow Lite's
``schema.fbs``, table Tensor). The runtime is asked what all sizes become once the inputs' are
settled, and those are written over the open ones: the file keeps its length, and its weights and
operators their places.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from ai_edge_litert import schema_py_generated as schema

from broker_config.errors import EdgePartitionError
from edge_partition.probe_model import CannotRunError, probe_model
from edge_partition.read_tflite import FILE_IDENTIFIER, malformed_as_invalid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_partition.read_tflite import Bytes

#: Where a table keeps these fields' offsets (schema.fbs, table Tensor, fields 0 and 7).
_SHAPE_FIELD, _SIGNATURE_FIELD = 4, 18


class OpenShapeError(EdgePartitionError):
    """A model's input shape is open, or another than asked for.

    Attributes:
        tensor_name: The input.
    """

    def __init__(self, model_name: str, tensor_name: str, reason: str) -> None:
        self.tensor_name = tensor_name
        super().__init__(f"{model_name}: input {tensor_name!r} {reason}")


def fix_shapes(data: Bytes, *, name: str, input_shape: Sequence[int] | None = None) -> Bytes:
    """Return the model with its open dimensions fixed; ``data`` itself where none needs it.

    The batch is what the file's ``shape`` has, mostly 1, as for ``read_tflite``. Sizes that depend
    on the values that go in stay open, and so does everything where the runtime cannot load the
    model: reading the file says what that means for it. An open batch stays where all sizes that
    are open follow from it; otherwise it is fixed, so that what stays open is known to be no batch.

    Args:
        data: A ``.tflite`` file.
        name: The model's name, for errors.
        input_shape: Of its only input with open dimensions, without the batch.

    Raises:
        InvalidModelError: The bytes are no TFLite model.
        OpenShapeError: ``input_shape`` is missing, or does not fit.
        CannotRunError: The runtime refuses ``input_shape``, or the model.
    """
    if data[4:8] != FILE_IDENTIFIER:
        return data  # for the reader to refuse
    with malformed_as_invalid(name):
        main = schema.Model.GetRootAs(data).Subgraphs(0)
        inputs, made = _activations(main, len(data))
        open_tensors = {index for index in (*inputs, *made) if _is_open(main.Tensors(index))}
        shapes = _input_shapes(name, main, inputs, input_shape)
    if not open_tensors:
        return data
    try:
        found = probe_model(name, data, shapes)
    except CannotRunError:
        if open_tensors.isdisjoint(inputs):
            return data
        raise
    with malformed_as_invalid(name):
        tensors = {index: main.Tensors(index) for index in open_tensors & found.keys()}
        # What the runtime says of the inputs alone tells nothing of the others.
        settled = open_tensors <= found.keys() or found.keys() <= set(inputs)
        has_batch = any(_sizes(main.Tensors(index))[:1] == [-1] for index in inputs)
        read = {
            index: (_as_read if has_batch else _sizes)(tensor) for index, tensor in tensors.items()
        }
        if settled and all(sizes == list(found[index]) for index, sizes in read.items()):
            return data
        fixed = bytearray(data)
        for index, tensor in tensors.items():
            _write_shape(fixed, tensor, found[index])
    return bytes(fixed)


def _activations(main: Any, file_bytes: int) -> tuple[list[int], set[int]]:
    """Return the inputs and what operators make; nothing of a file that cannot be meant so."""
    count, room = main.TensorsLength(), file_bytes // 4  # each index takes four bytes
    if main.InputsLength() + main.OperatorsLength() > room:
        return [], set()
    inputs = [main.Inputs(position) for position in range(main.InputsLength())]
    made: set[int] = set()
    for operator in map(main.Operators, range(main.OperatorsLength())):
        room -= operator.OutputsLength()
        if room < 0:
            return [], set()
        made.update(operator.Outputs(position) for position in range(operator.OutputsLength()))
    made.discard(-1)
    is_sound = all(0 <= index < count for index in made.union(inputs))
    return (inputs, made) if is_sound else ([], set())


def _input_shapes(
    name: str, main: Any, inputs: Sequence[int], input_shape: Sequence[int] | None
) -> dict[int, tuple[int, ...]]:
    """Return the shapes of the inputs that are open."""
    shapes: dict[int, tuple[int, ...]] = {}
    asking = []
    for index in inputs:
        tensor = main.Tensors(index)
        sizes = _as_read(tensor)
        if min(sizes[1:], default=1) < 1:
            asking.append((index, sizes))
        elif _is_open(tensor):
            shapes[index] = tuple(sizes)
        elif input_shape is not None and len(inputs) == 1 and list(input_shape) != sizes[1:]:
            raise OpenShapeError(
                name,
                _name(tensor),
                f"is fixed at {sizes}; leave --input-shape out.",
            )
    for index, sizes in asking:
        tensor_name = _name(main.Tensors(index))
        if input_shape is None:
            raise OpenShapeError(
                name,
                tensor_name,
                f"has open dimensions, {sizes}. Give --input-shape without the batch, such as "
                "224,224,3.",
            )
        if len(asking) > 1:
            raise OpenShapeError(
                name,
                tensor_name,
                f"is one of {len(asking)} with open dimensions, and --input-shape is for one. "
                "Convert the model with fixed shapes.",
            )
        wanted = [sizes[0], *input_shape]
        if len(wanted) != len(sizes) or any(
            size not in {ours, -1, 0} for size, ours in zip(sizes[1:], input_shape, strict=True)
        ):
            raise OpenShapeError(
                name,
                tensor_name,
                f"is {sizes}; --input-shape {','.join(map(str, input_shape))} does not fit it.",
            )
        shapes[index] = tuple(wanted)
    return shapes


def _sizes(tensor: Any) -> list[int]:
    """Return a tensor's sizes, -1 where open."""
    length = tensor.ShapeSignatureLength() or tensor.ShapeLength()
    read = tensor.ShapeSignature if tensor.ShapeSignatureLength() else tensor.Shape
    return [int(read(axis)) for axis in range(min(length, 64))]


def _is_open(tensor: Any) -> bool:
    return -1 in _sizes(tensor) or (tensor.ShapeLength() > 0 and 0 in tensor.ShapeAsNumpy())


def _as_read(tensor: Any) -> list[int]:
    """Return the sizes as the reader has them of an open batch: its size is the file's."""
    sizes = _sizes(tensor)
    if sizes[:1] == [-1]:
        sizes[0] = tensor.Shape(0)
    return sizes


def _write_shape(data: bytearray, tensor: Any, shape: tuple[int, ...]) -> None:
    """Write ``shape`` over the file's where it has the room, which a known rank gives."""
    for field in (_SHAPE_FIELD, _SIGNATURE_FIELD):
        offset = tensor._tab.Offset(field)  # noqa: SLF001 -- the accessors only read
        if offset and tensor._tab.VectorLen(offset) == len(shape):  # noqa: SLF001
            start = tensor._tab.Vector(offset)  # noqa: SLF001
            struct.pack_into(f"<{len(shape)}i", data, start, *shape)


def _name(tensor: Any) -> str:
    return (tensor.Name() or b"").decode(errors="replace")
