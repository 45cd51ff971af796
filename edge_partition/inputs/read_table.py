"""Read ``.csv`` files: each row is a sample, or the whole table is one sample."""

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
    """A table does not fit the model's input; the message does not contain the file's name."""


def table_samples(path: Path, spec: TensorSpec) -> list[np.ndarray[Any, Any]]:
    """Read the numbers in a ``.csv`` file as samples.

    Commas, semicolons, tabs or spaces may separate the numbers. A heading line is skipped. If each
    row has as many numbers as the input has elements, each row is a sample. Otherwise, the whole
    table is one sample. The table must then have the input's numbers of rows and columns, or a
    single column with as many numbers as the input has elements.

    Returns:
        The samples, with the dtype and shape of ``spec``. If the input has a scale, the numbers are
        quantized.

    Raises:
        TableError: The numbers of rows and columns do not fit the input, or a cell is not a number.
            Or the input takes integers, and a number is a fraction or out of range.
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
    whole = f", or the file needs {wide[0]} rows of {wide[1]} numbers" if len(wide) == 2 else ""  # noqa: PLR2004
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
                f"line {number} has {len(row)} cells; expected {len(cells[0])} as in the first row."
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
            f"holds a number that is not a valid {spec.dtype}; expected whole numbers from "
            f"{limits.min} to {limits.max} for input {spec.name}."
        )
    return shaped.astype(spec.dtype)
