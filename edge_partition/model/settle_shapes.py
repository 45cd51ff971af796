"""Determine fixed shapes for a model's inputs from the shapes that the user gives.

A dimension is open if the model does not fix its size. An input is open if one of its dimensions,
apart from the batch, is open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_partition.model.source_errors import InputShapeError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    OpenShape = tuple[int | None, ...]


def settle_shapes(
    source: str,
    inputs: Mapping[str, OpenShape],
    given: Mapping[str, Sequence[int]] | None = None,
) -> dict[str, tuple[int, ...]]:
    """Return the shape of each input, without the batch.

    If a given shape is a single number, the number is the size of every open dimension. For
    example, 16 turns ``(None, None, 3)`` into ``(16, 16, 3)``.

    Args:
        source: The MODEL argument, for error messages.
        inputs: Shape of each input without the batch, by name. An open dimension is None.
        given: Shapes without the batch, by input name. The name ``""`` stands for every open input
            that the shape fits. If the model has only one input, ``""`` stands for this input, even
            if its shape is fixed.

    Raises:
        InputShapeError: An input does not exist, a shape does not fit, or a dimension remains open.
    """
    given = dict(given or {})
    for_all = given.pop("", None)
    if unknown := [name for name in given if name not in inputs]:
        raise InputShapeError(
            source,
            f"has no input {unknown[0]!r} for --input-shape; its inputs are "
            f"{_list_inputs(inputs)}. Give --input-shape with one of these names.",
        )
    shapes: dict[str, OpenShape] = {}
    for name, shape in inputs.items():
        if name in given:
            shapes[name] = _fill(source, name, shape, given[name], len(inputs))
        elif for_all is not None and (len(inputs) == 1 or _fits(shape, for_all)):
            shapes[name] = _fill(source, name, shape, for_all, len(inputs))
        else:
            shapes[name] = shape
    if (
        for_all is not None
        and len(inputs) > 1
        and not any(_fits(shape, for_all) for name, shape in inputs.items() if name not in given)
    ):
        raise InputShapeError(
            source,
            f"has no open input that --input-shape {format_shape(for_all)} fits. The shapes of its "
            f"inputs, without the batch dimension, are {_list_inputs(inputs)}; ? marks open ones. "
            "Give a shape that fits an open input, or leave --input-shape out.",
        )
    _check_settled(source, shapes)
    return {name: tuple(size for size in shape if size) for name, shape in shapes.items()}


def format_shape(shape: Sequence[int | None]) -> str:
    """Return a shape in the syntax of ``--input-shape``, with ``?`` for open dimensions."""
    return ",".join("?" if size is None else str(size) for size in shape)


def _fits(shape: OpenShape, given: Sequence[int]) -> bool:
    """Return whether ``shape`` has open dimensions that the numbers in ``given`` can fix.

    A single number fits every shape with open dimensions. Several numbers must match
    the number of dimensions and the fixed sizes of ``shape``.
    """
    if None not in shape:
        return False
    if len(given) == 1 and len(shape) > 1:
        return True
    return len(given) == len(shape) and all(
        ours in {None, size} for ours, size in zip(shape, given, strict=True)
    )


def _fill(
    source: str, name: str, shape: OpenShape, given: Sequence[int], count: int
) -> tuple[int, ...]:
    if len(given) == 1 and len(shape) > 1 and None in shape:
        return tuple(given[0] if size is None else size for size in shape)
    if len(given) != len(shape):
        which = "its input" if count == 1 else f"input {name!r}"
        raise InputShapeError(
            source,
            f"{which} has shape {format_shape(shape)} without the batch; --input-shape "
            f"{format_shape(given)} has {len(given)} dimension{'s' * (len(given) != 1)}. Give one "
            "number for each dimension of the input.",
        )
    return tuple(given)


def _check_settled(source: str, shapes: Mapping[str, OpenShape]) -> None:
    still_open = {name: shape for name, shape in shapes.items() if None in shape}
    if not still_open:
        return
    if len(shapes) == 1:
        ((name, shape),) = still_open.items()
        raise InputShapeError(
            source,
            f"input {name!r} has an open dimension (shape {format_shape(shape)} without the "
            f"batch), but boards need fixed shapes. Give --input-shape, such as {_example(shape)}.",
        )
    name, shape = next(iter(still_open.items()))
    for_all = ""
    if len(still_open) > 1 and len({tuple(shape) for shape in still_open.values()}) == 1:
        for_all = f", or --input-shape {_example(shape)} for all inputs"
    raise InputShapeError(
        source,
        f"these inputs have open dimensions (shapes without the batch): "
        f"{_list_inputs(still_open)}. Boards need fixed shapes. Give a shape for each input, such "
        f"as --input-shape '{name}={_example(shape)}'{for_all}.",
    )


def _list_inputs(inputs: Mapping[str, OpenShape]) -> str:
    return ", ".join(f"{name!r} ({format_shape(shape)})" for name, shape in inputs.items())


def _example(shape: OpenShape) -> str:
    size = 128 if len(shape) == 1 else 224
    return format_shape([size if ours is None else ours for ours in shape])
