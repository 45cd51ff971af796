"""What a ``.tflite`` file says of its own inputs and outputs: normalization, labels, sound's rate.

Two ways of saying it are read. TensorFlow Lite's metadata: a FlatBuffer of its own
(``metadata_schema.fbs``, identifier ``M001``) in the buffer that the model's metadata entry
``TFLITE_METADATA`` names, with associated files such as labels in a ZIP archive behind the model.
And Ultralytics' exports: such an archive with a JSON or Python dictionary of task, class names and
image size.

The file may come from anyone. Damaged metadata is no fault of the model: it becomes a note.
"""

from __future__ import annotations

import ast
import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import flatbuffers
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import number_types

from edge_partition.tflite.file_tables import InvalidModelError, buffer_bytes, malformed_as_invalid

if TYPE_CHECKING:
    from edge_partition.tflite.file_tables import Bytes

_T = TypeVar("_T")

FILE_IDENTIFIER = b"M001"
METADATA_NAME = b"TFLITE_METADATA"

Kind = Literal["", "feature", "image", "boxes", "audio"]

#: metadata_schema.fbs, union ContentProperties.
_KINDS: tuple[Kind, ...] = ("", "feature", "image", "boxes", "audio")
#: metadata_schema.fbs, enum ColorSpaceType.
_COLOR_SPACES = ("", "rgb", "gray")
#: metadata_schema.fbs, enum BoundingBoxType.
_BOX_TYPES = ("", "boundaries", "upper_left", "center")
#: metadata_schema.fbs, enum AssociatedFileType: what the lines of a file label.
_AXIS_LABELS, _VALUE_LABELS = 2, 3
#: metadata_schema.fbs, union ProcessUnitOptions.
_NORMALIZATION, _SCORE_CALIBRATION, _SCORE_THRESHOLDING = 1, 2, 3
#: A label file of 100,000 classes is below 10 MB.
_MAX_PACKED_BYTES = 32 << 20
_MAX_PACKED_FILES = 1000
#: Ultralytics' dictionary of 1,000 classes is below 100 kB.
_MAX_DICTIONARY_BYTES = 1 << 20
_DICTIONARY_FILES = re.compile(r".*\.(json|txt|yaml|yml)", re.IGNORECASE)
#: What only Ultralytics' dictionaries have all of.
_DICTIONARY_KEYS = frozenset({"names", "stride"})
_UNREADABLE = (
    zipfile.BadZipFile, zlib.error, OSError, RuntimeError, NotImplementedError, EOFError,
    ValueError, KeyError, IndexError, TypeError, struct.error, OverflowError, MemoryError,
)  # fmt: skip


@dataclass(frozen=True)
class Normalization:
    """``(value - mean) / std``, one number each for all channels or one a channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class BoxFormat:
    """How four numbers are a box.

    Attributes:
        kind: ``boundaries`` (left, top, right, bottom), ``upper_left`` (left, top, width, height),
            ``center`` (center's x and y, width, height), or empty where the file does not say.
        order: Where in a box each of these stands: SSD's ``ymin, xmin, ymax, xmax`` is
            ``boundaries`` in the order ``(1, 0, 3, 2)``. Empty: in that order.
        in_pixels: Whether they count pixels; else they go from 0 to 1.
    """

    kind: str
    order: tuple[int, ...]
    in_pixels: bool


@dataclass(frozen=True)
class TensorMetadata:
    """What a file says of one input or output.

    Attributes:
        name: As the file's author calls it: ``image``, ``probability``, ``location``; may be empty.
        description: For people.
        kind: What it holds: ``feature``, ``image``, ``boxes``, ``audio``, or empty.
        normalization: What a picture's values from 0 to 255 become, before they are quantized.
        color_space: ``rgb``, ``gray`` or empty.
        rate_hz: Samples a second of sound; 0 where the file does not say.
        audio_channels: Of sound; 0 where the file does not say.
        labels: Class names.
        labels_name: What they name: ``axis``: the places along the last axis; ``value``: the
            tensor's values, as of SSD's classes; empty without labels.
        boxes: How its numbers are boxes.
        is_scores: Whether the file calibrates or thresholds its values as scores.
        files: Names of the files packed with it, vocabularies among them.
    """

    name: str = ""
    description: str = ""
    kind: Kind = ""
    normalization: Normalization | None = None
    color_space: str = ""
    rate_hz: int = 0
    audio_channels: int = 0
    labels: tuple[str, ...] = ()
    labels_name: Literal["", "axis", "value"] = ""
    boxes: BoxFormat | None = None
    is_scores: bool = False
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class TfliteMetadata:
    """What a ``.tflite`` file says of itself.

    Attributes:
        name: The model's, as its author calls it; may be empty.
        description: For people.
        inputs: In the order of the subgraph's inputs, one each; or none.
        outputs: In the order of the subgraph's distinct outputs, one each; or none.
        files: The files packed behind the model, read when asked for.
        ultralytics: An Ultralytics export's own dictionary: ``task``, ``imgsz``, and ``names`` as a
            list.
        notes: Sentences for people: what could not be read.
    """

    name: str = ""
    description: str = ""
    inputs: tuple[TensorMetadata, ...] = ()
    outputs: tuple[TensorMetadata, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    ultralytics: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names of the first output that has some, or Ultralytics'; may be empty."""
        for tensor in self.outputs:
            if tensor.labels:
                return tensor.labels
        return tuple((self.ultralytics or {}).get("names", ()))


def read_metadata(data: Bytes, subgraph: int = 0) -> TfliteMetadata:
    """Return what a ``.tflite`` file says of itself; nothing where it says nothing.

    Args:
        data: The file, as it came: slices and chosen signatures have no metadata.
        subgraph: The number of the subgraph whose inputs and outputs are meant.

    Raises:
        InvalidModelError: The model itself, not its metadata, is damaged.
    """
    with malformed_as_invalid("the model"):
        model = schema.Model.GetRootAs(data)
        ends = _end_counts(model, subgraph)
        entries = [model.Metadata(index) for index in range(model.MetadataLength())]
        buffers = [entry.Buffer() for entry in entries if entry.Name() == METADATA_NAME]
    files = PackedFiles(data)
    notes = list(files.notes)
    found = TfliteMetadata()
    if buffers:
        try:
            raw = buffer_bytes(model, buffers[0], data).tobytes()
            found = _read_model(raw, subgraph, files, notes)
        except (*_UNREADABLE, InvalidModelError) as error:
            notes.append(f"The model's metadata is damaged and left aside ({_reason(error)}).")
    inputs = _matched(found.inputs, ends[0], "inputs", notes)
    outputs = _matched(found.outputs, ends[1], "outputs", notes)
    return replace(
        found,
        inputs=inputs,
        outputs=outputs,
        files=files,
        ultralytics=_read_ultralytics(files),
        notes=tuple(notes),
    )


class PackedFiles(Mapping[str, bytes]):
    """The files in a ZIP archive behind a model, by name; each is read when asked for.

    Names are as they stand in the archive and are used as keys alone. A file of more than 32 MiB,
    or one that cannot be unpacked, is as one that is not there.

    Attributes:
        notes: What is wrong with the archive, for people.
    """

    def __init__(self, data: Bytes) -> None:
        self.notes: tuple[str, ...] = ()
        self._archive: zipfile.ZipFile | None = None
        self._entries: dict[str, zipfile.ZipInfo] = {}
        # The end-of-archive record lies in the last 64 KiB (PKWARE APPNOTE, 4.3.16).
        if bytes(data[-65_557:]).rfind(b"PK\5\6") < 0:
            return
        try:
            self._archive = zipfile.ZipFile(io.BufferedReader(_Stream(data)))
            entries = self._archive.infolist()
        except _UNREADABLE as error:
            self.notes = (f"The files packed with the model cannot be read ({_reason(error)}).",)
            return
        if len(entries) > _MAX_PACKED_FILES:
            more = f"{len(entries):,} files are packed with the model, {_MAX_PACKED_FILES:,} read."
            self.notes = (more,)
        self._entries = {
            entry.filename: entry
            for entry in entries[:_MAX_PACKED_FILES]
            if not entry.is_dir() and entry.file_size <= _MAX_PACKED_BYTES
        }

    def __getitem__(self, name: str) -> bytes:
        if self._archive is None:
            raise KeyError(name)
        entry = self._entries[name]
        try:
            with self._archive.open(entry) as file:
                found = file.read(_MAX_PACKED_BYTES + 1)
        except _UNREADABLE as error:
            raise KeyError(name) from error
        if len(found) > _MAX_PACKED_BYTES:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def size_bytes(self, name: str) -> int:
        """Return a file's size as the archive says it."""
        return self._entries[name].file_size


class _Stream(io.RawIOBase):
    """Bytes, mapped or not, as a file to read."""

    def __init__(self, data: Bytes) -> None:
        self._data = data
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._data)}[whence]
        if start + offset < 0:
            raise ValueError(f"Position {start + offset} lies before the file.")
        self._at = start + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        chunk = self._data[self._at : self._at + len(buffer)]
        buffer[: len(chunk)] = chunk
        self._at += len(chunk)
        return len(chunk)


class _Table:
    """A FlatBuffers table of untrusted bytes; fields are counted from 0 as in the schema."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self._table = flatbuffers.table.Table(data, position)

    def text(self, number: int) -> str:
        offset = self._offset(number)
        if not offset:
            return ""
        found: bytes = self._table.String(offset + self._table.Pos)
        return found.decode(errors="replace")

    def number(self, number: int, kind: Any) -> int:
        offset = self._offset(number)
        return int(self._table.Get(kind, offset + self._table.Pos)) if offset else 0

    def table(self, number: int) -> _Table | None:
        offset = self._offset(number)
        if not offset:
            return None
        return _Table(self._data, self._table.Indirect(offset + self._table.Pos))

    def tables(self, number: int) -> list[_Table]:
        return self._vector(
            number, 4, lambda place: _Table(self._data, self._table.Indirect(place))
        )

    def floats(self, number: int) -> tuple[float, ...]:
        return tuple(
            self._vector(
                number,
                4,
                lambda place: float(self._table.Get(number_types.Float32Flags, place)),
            )
        )

    def integers(self, number: int) -> tuple[int, ...]:
        return tuple(
            self._vector(
                number, 4, lambda place: int(self._table.Get(number_types.Uint32Flags, place))
            )
        )

    def union(self, number: int) -> tuple[int, _Table | None]:
        """Return a union's type and its table; the type's field comes before."""
        return self.number(number - 1, number_types.Uint8Flags), self.table(number)

    def _offset(self, number: int) -> int:
        return int(self._table.Offset(4 + 2 * number))

    def _vector(self, number: int, item_bytes: int, read: Callable[[int], _T]) -> list[_T]:
        offset = self._offset(number)
        if not offset:
            return []
        count = self._table.VectorLen(offset)
        if count * item_bytes > len(self._data):
            raise ValueError(f"a list claims {count:,} items")
        start = self._table.Vector(offset)
        return [read(start + item_bytes * index) for index in range(count)]


def _end_counts(model: Any, subgraph: int) -> tuple[list[int], list[int]]:
    """Return the inputs and outputs of a subgraph, as tensors' indexes."""
    if not 0 <= subgraph < model.SubgraphsLength():
        return [], []
    table = model.Subgraphs(subgraph)
    return (
        [table.Inputs(index) for index in range(table.InputsLength())],
        [table.Outputs(index) for index in range(table.OutputsLength())],
    )


def _matched(
    found: tuple[TensorMetadata, ...], tensors: list[int], what: str, notes: list[str]
) -> tuple[TensorMetadata, ...]:
    """Return what is said of each distinct tensor; nothing where the numbers differ."""
    if found and len(found) != len(tensors):
        notes.append(
            f"The model's metadata speaks of {len(found)} {what}, the model has {len(tensors)}: "
            "left aside."
        )
        return ()
    distinct: dict[int, TensorMetadata] = {}
    for index, tensor in zip(tensors, found, strict=False):
        distinct.setdefault(index, tensor)
    return tuple(distinct.values())


def _read_model(
    raw: bytes, subgraph: int, files: Mapping[str, bytes], notes: list[str]
) -> TfliteMetadata:
    """Read a ``ModelMetadata``."""
    if raw[4:8] != FILE_IDENTIFIER:
        raise ValueError(f"bytes 4 to 8 are {raw[4:8]!r}, expected {FILE_IDENTIFIER!r}")
    root = _Table(raw, struct.unpack_from("<I", raw)[0])
    subgraphs = root.tables(3)
    inputs: tuple[TensorMetadata, ...] = ()
    outputs: tuple[TensorMetadata, ...] = ()
    if subgraph < len(subgraphs):
        table = subgraphs[subgraph]
        inputs, outputs = (
            tuple(_read_tensor(item, files, notes) for item in table.tables(number))
            for number in (2, 3)
        )
    return TfliteMetadata(
        name=root.text(0), description=root.text(1), inputs=inputs, outputs=outputs
    )


def _read_tensor(table: _Table, files: Mapping[str, bytes], notes: list[str]) -> TensorMetadata:
    """Read a ``TensorMetadata``."""
    content = table.table(3)
    kind, properties = content.union(1) if content else (0, None)
    units = [unit.union(1) for unit in table.tables(4)]
    associated = table.tables(6)
    labels, labels_name = _read_labels(associated, files, notes)
    found = TensorMetadata(
        name=table.text(0),
        description=table.text(1),
        kind=_KINDS[kind] if kind < len(_KINDS) else "",
        normalization=_read_normalization(units, notes),
        labels=labels,
        labels_name=labels_name,
        is_scores=any(unit in {_SCORE_CALIBRATION, _SCORE_THRESHOLDING} for unit, _ in units),
        files=tuple(file.text(0) for file in associated),
    )
    if properties is None:
        return found
    match found.kind:
        case "image":
            space = properties.number(0, number_types.Int8Flags)
            return replace(found, color_space=_one_of(_COLOR_SPACES, space))
        case "boxes":
            return replace(
                found,
                boxes=BoxFormat(
                    kind=_one_of(_BOX_TYPES, properties.number(1, number_types.Int8Flags)),
                    order=properties.integers(0),
                    in_pixels=properties.number(2, number_types.Int8Flags) == 1,
                ),
            )
        case "audio":
            return replace(
                found,
                rate_hz=properties.number(0, number_types.Uint32Flags),
                audio_channels=properties.number(1, number_types.Uint32Flags),
            )
        case _:
            return found


def _one_of(names: tuple[str, ...], number: int) -> str:
    return names[number] if 0 <= number < len(names) else ""


def _read_normalization(
    units: list[tuple[int, _Table | None]], notes: list[str]
) -> Normalization | None:
    for kind, options in units:
        if kind != _NORMALIZATION or options is None:
            continue
        mean, std = options.floats(0), options.floats(1)
        finite = all(abs(value) < float("inf") for value in (*mean, *std))
        if mean and std and finite and min(std) > 0:
            return Normalization(mean, std)
        notes.append(
            f"The model's metadata has a normalization of mean {list(mean)[:4]} and deviation "
            f"{list(std)[:4]}, which means nothing: left aside."
        )
    return None


def _read_labels(
    associated: list[_Table], files: Mapping[str, bytes], notes: list[str]
) -> tuple[tuple[str, ...], Literal["", "axis", "value"]]:
    """Return a tensor's labels: of several languages those of none or English, else the first."""
    candidates = [
        (file, file.number(2, number_types.Int8Flags))
        for file in associated
        if file.number(2, number_types.Int8Flags) in {_AXIS_LABELS, _VALUE_LABELS}
    ]
    candidates.sort(key=lambda item: not (item[0].text(3) or "en").startswith("en"))
    for file, kind in candidates:
        name = file.text(0)
        try:
            text = files[name].decode("utf-8-sig")
        except KeyError:
            notes.append(f"The model's metadata names the label file {name!r}, which is missing.")
            continue
        except UnicodeDecodeError:
            notes.append(f"The label file {name!r} packed with the model is no UTF-8 text.")
            continue
        lines = re.split(r"\r\n|\r|\n", text)
        while lines and not lines[-1].strip():
            lines.pop()
        return tuple(line.strip() for line in lines), "value" if kind == _VALUE_LABELS else "axis"
    return (), ""


def _read_ultralytics(files: PackedFiles) -> dict[str, Any] | None:
    """Return an Ultralytics export's dictionary, its ``names`` as a list."""
    for name in files:
        if not _DICTIONARY_FILES.fullmatch(name) or files.size_bytes(name) > _MAX_DICTIONARY_BYTES:
            continue
        try:
            found = _parse_dictionary(files[name].decode())
        except KeyError:
            continue
        except UnicodeDecodeError:
            continue
        if isinstance(found, dict) and found.keys() >= _DICTIONARY_KEYS:
            names = _listed(found["names"])
            if names is not None:
                return {**found, "names": names}
    return None


def _parse_dictionary(text: str) -> Any:
    """Return what JSON or a Python literal says; None where the text is neither."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _listed(names: Any) -> list[str] | None:
    """Return class names given as a list, or by their numbers, as a list."""
    if isinstance(names, list | tuple):
        return [str(name) for name in names]
    if not isinstance(names, dict):
        return None
    try:
        by_number = {int(number): str(name) for number, name in names.items()}
    except (ValueError, TypeError):
        return None
    if set(by_number) != set(range(len(by_number))):
        return None
    return [by_number[number] for number in range(len(by_number))]


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
