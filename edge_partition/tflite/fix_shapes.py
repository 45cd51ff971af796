"""Fix open or wrong tensor shapes in a ``.tflite`` file.

A size is open if it is not fixed. For an open size, the converter writes -1 into the tensor's
``shape_signature`` (TensorFlow Lite's ``schema.fbs``, table Tensor). For a tensor of unknown rank,
such as the output of a custom operator, the converter writes no shape.

The inputs get fixed shapes, and then a trial run of the model gives the shapes of all tensors.
These shapes are written into the file. A model whose shapes are all known needs no trial run.
"""

from __future__ import annotations

import shlex
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ai_edge_litert import schema_py_generated as schema

from edge_core.errors import EdgePartitionError
from edge_core.plain_text import plain_text
from edge_partition.tflite.file_tables import FILE_IDENTIFIER, malformed_as_invalid
from edge_partition.tflite.probe_model import CannotRunError, ProbedShapes, probe_model
from edge_partition.tflite.rewrite_tflite import rewrite_tensors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from edge_partition.tflite.file_tables import Bytes

#: Vtable offsets of the fields ``shape`` and ``shape_signature`` (schema.fbs, table Tensor).
_SHAPE_FIELD, _SIGNATURE_FIELD = 4, 18
_MAX_RANK = 64
#: Dimensions of an image: batch, height, width, channels.
_IMAGE_RANK = 4
#: Types whose tensors need no shape.
_WITHOUT_SHAPE = frozenset(
    {schema.TensorType.RESOURCE, schema.TensorType.VARIANT, schema.TensorType.STRING}
)


class OpenShapeError(EdgePartitionError):
    """An input has open dimensions, or its shape differs from the requested shape.

    A dimension is open if its size is not fixed.

    Attributes:
        tensor_name: The input's name; empty if the error is not about one input.
    """

    def __init__(self, model_name: str, tensor_name: str, reason: str) -> None:
        self.tensor_name = tensor_name
        which = f"input {tensor_name!r} " if tensor_name else ""
        super().__init__(plain_text(f"{model_name}: {which}{reason}"))


def fix_shapes(
    data: Bytes, *, name: str, input_shapes: Mapping[str, Sequence[int]] | None = None
) -> Bytes:
    """Return the model with the shapes of a trial run; ``data`` itself if no shape changes.

    A size is open if it is not fixed. The trial run takes place only if a size is open, a rank is
    unknown, or an operator is custom. In the trial run, an open batch size is the size in the
    file's ``shape`` (usually 1), as in ``read_tflite``. A size that depends on the input values is
    open (-1) in the result.

    An open batch size stays open in the result if the trial run gives the shapes that
    ``read_tflite`` reads from ``data``. In all other cases, the result has a fixed batch size, and
    each size that is still open depends on the input values. If the runtime cannot load the model
    although all inputs have fixed shapes, the result is ``data``.

    Args:
        data: A ``.tflite`` file.
        name: The model's name, for errors.
        input_shapes: Shapes without the batch dimension, by input name. The shape under the name
            ``""`` is for all inputs with open dimensions that are not named. If a shape is one
            number, all open dimensions of the input get this size.

    Raises:
        InvalidModelError: The file is damaged.
        OpenShapeError: ``input_shapes`` lacks the shape of an input with open dimensions, contains
            a shape that does not fit, or contains a name that no input has.
        CannotRunError: An input's shape is open, and the runtime cannot run the model with the new
            shape.
        FileTooLargeError: With the new shapes, the file would be over 2 GB.
    """
    if data[4:8] != FILE_IDENTIFIER:
        return data  # read_tflite raises the error
    with malformed_as_invalid(name):
        main = _Main(data)
        shapes = _input_shapes(name, main, input_shapes or {})
        doubtful = main.doubtful()
    if not doubtful:
        return data
    try:
        found = probe_model(name, data, shapes)
    except CannotRunError:
        if main.open.isdisjoint(main.inputs):
            return data
        raise
    with malformed_as_invalid(name):
        return _with_shapes(data, name, main, found)
    raise AssertionError  # pragma: no cover - the context either returns or raises


class _Main:
    """The shapes that the file states for the main subgraph's tensors.

    A size is open if it is not fixed. If the file is damaged, ``inputs`` and ``made`` are empty.

    Attributes:
        table: The subgraph's table, a view of the file.
        inputs: Indexes of the inputs, in file order.
        made: Indexes of the tensors that operators write.
        open: Indexes of the tensors in ``inputs`` or ``made`` with an open size or an unknown rank.
    """

    def __init__(self, data: Bytes) -> None:
        model = schema.Model.GetRootAs(data)
        self.table = model.Subgraphs(0)
        self.inputs: list[int] = []
        self.made: set[int] = set()
        self._from_custom: set[int] = set()
        self._read_ends(model, len(data) // 4)  # number of indexes that fit, of four bytes each
        tensors = map(self.table.Tensors, range(self.table.TensorsLength()))
        self._tells_rank = any(tensor.HasRank() for tensor in tensors)
        self._has_batch = any(_sizes(self.tensor(index))[:1] == [-1] for index in self.inputs)
        self.open = {
            index
            for index in {*self.inputs, *self.made}
            if _is_open(self.tensor(index)) or self.is_unranked(index)
        }

    def tensor(self, index: int) -> Any:
        return self.table.Tensors(index)

    def input_names(self) -> dict[str, int]:
        """Return the inputs' tensor indexes, by input name.

        The names are unique. They are the names that ``read_tflite`` gives to the inputs.
        """
        names: dict[str, int] = {}
        for index in self.inputs:
            name = (self.tensor(index).Name() or b"").split(b"\0")[0].decode(errors="replace")
            name = name or f"tensor_{index}"
            names[f"{name}__{index}" if name in names else name] = index
        return names

    def is_unranked(self, index: int) -> bool:
        """Return whether the file marks a tensor's rank as unknown."""
        tensor = self.tensor(index)
        return self._tells_rank and not tensor.ShapeLength() and not tensor.HasRank()

    def doubtful(self) -> set[int]:
        """Return the indexes of the tensors whose shapes must come from a trial run.

        These are the tensors with an open size or an unknown rank, and two more kinds of tensors.
        The file may state a wrong shape for a custom operator's output. And if a converter does not
        know the field ``has_rank``, a tensor without a shape is a scalar or has an unknown rank.
        """
        shapeless = (
            set()
            if self._tells_rank
            else {index for index in self.made if not self.tensor(index).ShapeLength()}
        )
        return self.open | shapeless | self._from_custom

    def has_shape(self, index: int, shape: tuple[int, ...]) -> bool:
        """Return whether ``read_tflite`` would read ``shape`` as a tensor's shape.

        In ``shape``, -1 is an open size (a size that is not fixed).
        """
        read = _as_read if self._has_batch else _sizes
        return read(self.tensor(index)) == list(shape) and not self.is_unranked(index)

    def _read_ends(self, model: Any, room: int) -> None:
        main, count = self.table, self.table.TensorsLength()
        if main.InputsLength() + main.OperatorsLength() + model.OperatorCodesLength() > room:
            return
        codes = map(model.OperatorCodes, range(model.OperatorCodesLength()))
        custom = {number for number, code in enumerate(codes) if _is_custom(code)}
        inputs = [main.Inputs(position) for position in range(main.InputsLength())]
        made: set[int] = set()
        from_custom: set[int] = set()
        for operator in map(main.Operators, range(main.OperatorsLength())):
            room -= operator.OutputsLength()
            if room < 0:
                return
            outputs = set(map(operator.Outputs, range(operator.OutputsLength()))) - {-1}
            made |= outputs
            if operator.OpcodeIndex() in custom:
                from_custom |= outputs
        if all(0 <= index < count for index in made.union(inputs)):
            self.inputs, self.made, self._from_custom = inputs, made, from_custom


@dataclass(frozen=True)
class _OpenInput:
    """An input with open dimensions, which are dimensions without a fixed size.

    Attributes:
        index: The input's tensor index.
        name: The input's name.
        sizes: The input's sizes with the batch size; an open size is -1. None if the rank is
            unknown.
    """

    index: int
    name: str
    sizes: list[int] | None

    @property
    def example(self) -> str:
        """An example of a shape that fits, for an error message."""
        if self.sizes is None:
            return "224,224,3"
        open_size = 224 if len(self.sizes) == _IMAGE_RANK else 16
        return ",".join(str(size if size > 0 else open_size) for size in self.sizes[1:])

    def filled(self, given: Sequence[int]) -> tuple[int, ...] | None:
        """Return the input's shape with the sizes of ``given``; None if ``given`` does not fit.

        Args:
            given: The sizes without the batch size, or one size for all open dimensions.
        """
        if self.sizes is None:
            return (1, *given)
        rest = self.sizes[1:]
        if len(given) == 1 and len(rest) != 1:
            return (self.sizes[0], *(size if size > 0 else given[0] for size in rest))
        if len(given) != len(rest) or any(
            size not in {ours, -1, 0} for size, ours in zip(rest, given, strict=True)
        ):
            return None
        return (self.sizes[0], *given)


def _input_shapes(
    name: str, main: _Main, given: Mapping[str, Sequence[int]]
) -> dict[int, tuple[int, ...]]:
    """Return the fixed shapes that inputs with open sizes get for the trial run, by tensor index.

    Raises:
        OpenShapeError: ``given`` does not fit the model's inputs.
    """
    names = main.input_names()
    unknown = [word for word in given if word and word not in names]
    if unknown:
        raise OpenShapeError(
            name,
            "",
            f"--input-shape names input {unknown[0]!r}, but the model has only the inputs "
            f"{', '.join(map(repr, names))}.",
        )
    shapes: dict[int, tuple[int, ...]] = {}
    open_inputs = []
    for tensor_name, index in names.items():
        tensor = main.tensor(index)
        sizes = _as_read(tensor)
        if main.is_unranked(index):
            open_inputs.append(_OpenInput(index, tensor_name, None))
        elif min(sizes[1:], default=1) < 1:
            open_inputs.append(_OpenInput(index, tensor_name, sizes))
        elif _sizes(tensor) == [-1] and len(given.get(tensor_name, ())) == 1:
            shapes[index] = tuple(given[tensor_name])  # the only dimension; it may be a batch
        else:
            _check_fixed(name, tensor_name, sizes, given.get(tensor_name))
            if _is_open(tensor):
                shapes[index] = tuple(sizes)
    if "" in given and not open_inputs:
        _check_any_fixed(name, main, given[""])
    for item in open_inputs:
        shapes[item.index] = _chosen_shape(name, item, given, len(open_inputs))
    return shapes


def _chosen_shape(
    name: str, item: _OpenInput, given: Mapping[str, Sequence[int]], open_inputs: int
) -> tuple[int, ...]:
    """Return the fixed shape that an input with open dimensions gets for the trial run.

    Raises:
        OpenShapeError: ``given`` has no shape for the input, or a shape that does not fit.
    """
    shown = "the rank is unknown" if item.sizes is None else _show_sizes(item.sizes)
    wanted = given.get(item.name, given.get(""))
    if wanted is None and open_inputs == 1:
        raise OpenShapeError(
            name,
            item.name,
            f"has open dimensions: {shown}. Give the shape without the batch, such as "
            f"--input-shape {item.example}.",
        )
    if wanted is None:
        raise OpenShapeError(
            name,
            item.name,
            f"is one of {open_inputs} inputs with open dimensions: {shown}. Give one length for "
            "all inputs, such as --input-shape 16, or one shape for each input, without the batch, "
            f"such as --input-shape {shlex.quote(f'{item.name}={item.example}')}.",
        )
    shape = item.filled(wanted)
    if shape is None:
        label = f"{item.name}=" if item.name in given else ""
        raise OpenShapeError(
            name,
            item.name,
            f"is {shown}; --input-shape {label}{','.join(map(str, wanted))} does not fit. Give a "
            f"shape that fits, such as --input-shape {shlex.quote(f'{item.name}={item.example}')}.",
        )
    return shape


def _check_fixed(
    name: str, tensor_name: str, sizes: list[int], given: Sequence[int] | None
) -> None:
    """Raise an error if the user gives a shape that differs from an input's fixed shape."""
    if given is not None and list(given) != sizes[1:]:
        raise OpenShapeError(
            name,
            tensor_name,
            f"is fixed at {_show_sizes(sizes)}; remove --input-shape "
            f"{tensor_name}={','.join(map(str, given))}.",
        )


def _check_any_fixed(name: str, main: _Main, given: Sequence[int]) -> None:
    """Raise an error if no input has the shape ``given``, which lacks the batch size.

    The user gives this shape for all inputs with open dimensions, but the model has no such input.
    """
    fixed = {word: _as_read(main.tensor(index)) for word, index in main.input_names().items()}
    if fixed and list(given) not in [sizes[1:] for sizes in fixed.values()]:
        tensor_name, sizes = next(iter(fixed.items()))
        raise OpenShapeError(
            name, tensor_name, f"is fixed at {_show_sizes(sizes)}; remove --input-shape."
        )


def _with_shapes(data: Bytes, name: str, main: _Main, found: ProbedShapes) -> Bytes:
    """Return the file with the shapes of the trial run; ``data`` itself if no shape changes.

    A size that differs between runs becomes open (-1).
    """
    wanted = {
        index: shape
        for index, shape in {**found.shapes, **found.varying}.items()
        if (index in main.made or index in main.inputs)
        and main.tensor(index).Type() not in _WITHOUT_SHAPE
        # If the model did not run, shapes that depend on values are still those of the file.
        and (found.ran or (index in main.open and not main.is_unranked(index)))
    }
    if all(main.has_shape(index, shape) for index, shape in wanted.items()):
        return data
    if all(_has_room(main.tensor(index), shape) for index, shape in wanted.items()):
        fixed = bytearray(data)
        for index, shape in wanted.items():
            _write_shape(fixed, main.tensor(index), shape)
        return bytes(fixed)
    return rewrite_tensors(data, shapes=wanted, model_name=name)


def _is_custom(code: Any) -> bool:
    # Files from before 2020 have only the deprecated field (schema.fbs, table OperatorCode).
    value = max(code.DeprecatedBuiltinCode(), code.BuiltinCode())
    return bool(value == schema.BuiltinOperator.CUSTOM)


def _sizes(tensor: Any) -> list[int]:
    """Return a tensor's sizes; a size that is not fixed is -1."""
    length = tensor.ShapeSignatureLength() or tensor.ShapeLength()
    read = tensor.ShapeSignature if tensor.ShapeSignatureLength() else tensor.Shape
    return [int(read(axis)) for axis in range(min(length, _MAX_RANK))]


def _show_sizes(sizes: Sequence[int]) -> str:
    """Return sizes as text, such as ``[1, ?, 3]``, as the command ``inspect`` shows them."""
    return f"[{', '.join('?' if size == -1 else str(size) for size in sizes)}]"


def _is_open(tensor: Any) -> bool:
    return -1 in _sizes(tensor) or (tensor.ShapeLength() > 0 and 0 in tensor.ShapeAsNumpy())


def _as_read(tensor: Any) -> list[int]:
    """Return a tensor's sizes as ``read_tflite`` reads them.

    If the batch size is not fixed, the result contains the batch size in the field ``shape``.
    """
    sizes = _sizes(tensor)
    if sizes[:1] == [-1]:
        sizes[0] = tensor.Shape(0)
    return sizes


def _vectors(tensor: Any) -> Iterator[tuple[int, int, int]]:
    """Yield the position of each list in the file that contains a tensor's sizes.

    Each result is the list's field (a vtable offset), the position of the list's first size in the
    file, and the number of sizes.
    """
    for field in (_SHAPE_FIELD, _SIGNATURE_FIELD):
        offset = tensor._tab.Offset(field)  # noqa: SLF001 -- the accessors only read
        if offset:
            start = tensor._tab.Vector(offset)  # noqa: SLF001
            yield field, start, tensor._tab.VectorLen(offset)  # noqa: SLF001


def _has_room(tensor: Any, shape: tuple[int, ...]) -> bool:
    """Return whether ``shape`` can overwrite a tensor's shape in the file.

    The file must store as many sizes as ``shape`` has. If a size is -1, the file must also have the
    field ``shape_signature``.
    """
    lengths = {field: length for field, _, length in _vectors(tensor)}
    needed = {_SHAPE_FIELD, *({_SIGNATURE_FIELD} if -1 in shape else ())}
    if not shape:
        return not any(lengths.values()) and tensor.HasRank()
    return needed <= lengths.keys() and set(lengths.values()) == {len(shape)}


def _write_shape(data: bytearray, tensor: Any, shape: tuple[int, ...]) -> None:
    """Overwrite a tensor's shape in the file with ``shape``, which has the same rank."""
    for field, start, _ in _vectors(tensor):
        if field == _SIGNATURE_FIELD or -1 not in shape:
            struct.pack_into(f"<{len(shape)}i", data, start, *shape)
