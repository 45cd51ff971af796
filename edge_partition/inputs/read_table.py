"""Read ``.csv`` files as samples: one sample for each row, or one for the whole table."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_core.errors import EdgePartitionError
from edge_partition.inputs.pixels import quantize

if TYPE_CHECKING:
    from pathlib import Path

    from edge_core.contract.manifest import TensorSpec


class TableError(EdgePartitionError):
    """A table is not an input of the model; the message lacks the file's name."""


def table_samples(path: Path, spec: TensorSpec) -> list[np.ndarray[Any, Any]]:
    """Read numbers separated by commas, semicolons, tabs or spaces; a heading line is skipped.

    If a row has as many numbers as the input has elements, each row is a sample. Otherwise, the
    whole table is one sample if it has the input's rows and columns.

    Returns:
        Arrays of the dtype and shape of ``spec``; quantized if the input has a scale.

    Raises:
        TableError: The rows and columns do not fit the input, a cell is not a number, or a number
            is out of range or a fraction for an integer input.
        OSError: The file cannot be read.
        UnicodeDecodeError: The file is not UTF-8 text.
    """
    rows = _rows(path.read_text(encoding="utf-8-sig"))
    size = math.prod(spec.shape)
    columns = rows.shape[1]
    if columns == size:
        return [_as_input(row, spec) for row in rows]
    wide = [length for length in spec.shape if length > 1]
    if rows.size == size and (columns == 1 or list(rows.shape) == wide):
        return [_as_input(rows, spec)]
    whole = f", or the file {wide[0]} rows of {wide[1]}" if len(wide) == 2 else ""  # noqa: PLR2004
    raise TableError(
        f"has {len(rows)} rows of {columns} numbers; input {spec.name} is {spec.dtype}"
        f"{list(spec.shape)}, so each row needs {size:,} numbers{whole}."
    )


def _rows(text: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise TableError("is empty; expected numbers.")
    separator = next((mark for mark in (",", ";", "\t") if mark in lines[-1]), None)
    cells = [
        [cell.strip().strip('"') for cell in (line.split(separator) if separator else line.split())]
        for line in lines
    ]
    if not any(map(_is_number, cells[0])) and len(cells) > 1:
        cells = cells[1:]
    for number, row in enumerate(cells, len(lines) - len(cells) + 1):
        if len(row) != len(cells[0]):
            raise TableError(
                f"line {number} has {len(row)} cells; the first row has {len(cells[0])}."
            )
        for cell in row:
            if not _is_number(cell):
                raise TableError(
                    f"line {number} has the cell {cell[:40]!r}; expected only numbers."
                )
    return np.array([[float(cell) for cell in row] for row in cells])


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", cell, re.IGNORECASE) is not None


def _as_input(values: np.ndarray[Any, Any], spec: TensorSpec) -> np.ndarray[Any, Any]:
    shaped = values.reshape(spec.shape)
    if spec.dtype.startswith("float"):
        return shaped.astype(spec.dtype)
    if spec.quantized is not None:
        return quantize(shaped, spec.dtype, spec.quantized)
    if spec.dtype == "bool":
        return np.asarray(shaped != 0)
    limits = np.iinfo(spec.dtype)
    if (shaped != np.floor(shaped)).any() or shaped.min() < limits.min or shaped.max() > limits.max:
        raise TableError(
            f"holds a number that is not {spec.dtype}, the dtype of input {spec.name}."
        )
    return shaped.astype(spec.dtype)
