"""Read the fields of a FlatBuffers table without generated accessors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import flatbuffers
from flatbuffers import number_types

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")


class FlatbufferTable:
    """A FlatBuffers table in bytes that may be damaged.

    Each method reads one field. The argument ``number`` is the field's position in the schema's
    definition of the table, counted from 0. For an absent field, the result is empty, 0 or None.

    Raises:
        ValueError: A list has more items than fit in the bytes.
        struct.error, IndexError, TypeError: An offset points outside the bytes.
    """

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self._table = flatbuffers.table.Table(data, position)

    def text(self, number: int) -> str:
        """Return the text in a string field; bytes that are not UTF-8 become ``U+FFFD``."""
        offset = self._offset(number)
        if not offset:
            return ""
        found: bytes = self._table.String(offset + self._table.Pos)
        return found.decode(errors="replace")

    def number(self, number: int, kind: Any) -> int:
        """Return the integer in a field.

        Args:
            number: The field's number.
            kind: The integer's type, such as ``flatbuffers.number_types.Int8Flags``.
        """
        offset = self._offset(number)
        return int(self._table.Get(kind, offset + self._table.Pos)) if offset else 0

    def table(self, number: int) -> FlatbufferTable | None:
        """Return the table in a field; None if the field is absent."""
        offset = self._offset(number)
        if not offset:
            return None
        return FlatbufferTable(self._data, self._table.Indirect(offset + self._table.Pos))

    def tables(self, number: int) -> list[FlatbufferTable]:
        """Return the tables in a field that holds a list of tables."""
        return self._vector(
            number, 4, lambda place: FlatbufferTable(self._data, self._table.Indirect(place))
        )

    def floats(self, number: int) -> tuple[float, ...]:
        """Return the numbers in a field that holds a list of float32 numbers."""
        return tuple(
            self._vector(
                number,
                4,
                lambda place: float(self._table.Get(number_types.Float32Flags, place)),
            )
        )

    def integers(self, number: int) -> tuple[int, ...]:
        """Return the numbers in a field that holds a list of uint32 numbers."""
        return tuple(
            self._vector(
                number, 4, lambda place: int(self._table.Get(number_types.Uint32Flags, place))
            )
        )

    def union(self, number: int) -> tuple[int, FlatbufferTable | None]:
        """Return the type number and the table of a union.

        The table is in the field ``number``, and the type number is in the field ``number - 1``.
        """
        return self.number(number - 1, number_types.Uint8Flags), self.table(number)

    def _offset(self, number: int) -> int:
        return int(self._table.Offset(4 + 2 * number))

    def _vector(self, number: int, item_bytes: int, read: Callable[[int], _T]) -> list[_T]:
        offset = self._offset(number)
        if not offset:
            return []
        count = self._table.VectorLen(offset)
        if count * item_bytes > len(self._data):
            raise ValueError(f"a list of {count:,} items is longer than the data")
        start = self._table.Vector(offset)
        return [read(start + item_bytes * index) for index in range(count)]
