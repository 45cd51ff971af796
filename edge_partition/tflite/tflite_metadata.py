"""Read the metadata of a ``.tflite`` file, such as normalization, labels and sample rate.

Two formats are read:

- TensorFlow Lite's metadata is a FlatBuffer (``metadata_schema.fbs``, identifier ``M001``). The
  model's metadata entry ``TFLITE_METADATA`` gives the number of its buffer. Associated files, such
  as labels, are in a ZIP archive that follows the model.
- An Ultralytics export has a ZIP archive with a dictionary of task, class names and image size.

The file may come from anyone. A model with damaged metadata can still be used; a note reports the
damage.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from ai_edge_litert import schema_py_generated as schema
from flatbuffers import number_types

from edge_partition.tflite.file_tables import InvalidModelError, buffer_bytes, malformed_as_invalid
from edge_partition.tflite.flatbuffer_table import FlatbufferTable
from edge_partition.tflite.packed_files import UNREADABLE, PackedFiles, one_line
from edge_partition.tflite.ultralytics_metadata import read_ultralytics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge_partition.tflite.file_tables import Bytes

FILE_IDENTIFIER = b"M001"
METADATA_NAME = b"TFLITE_METADATA"

Kind = Literal["", "feature", "image", "boxes", "audio"]

#: metadata_schema.fbs, union ContentProperties.
_KINDS: tuple[Kind, ...] = ("", "feature", "image", "boxes", "audio")
#: metadata_schema.fbs, enum ColorSpaceType.
_COLOR_SPACES = ("", "rgb", "gray")
#: metadata_schema.fbs, enum BoundingBoxType.
_BOX_TYPES = ("", "boundaries", "upper_left", "center")
#: metadata_schema.fbs, enum AssociatedFileType: labels of positions on an axis, labels of values.
_AXIS_LABELS, _VALUE_LABELS = 2, 3
#: metadata_schema.fbs, union ProcessUnitOptions.
_NORMALIZATION, _SCORE_CALIBRATION, _SCORE_THRESHOLDING = 1, 2, 3


@dataclass(frozen=True)
class Normalization:
    """A picture's normalization: ``(value - mean) / std``.

    Attributes:
        mean: One number for all channels, or one number for each channel.
        std: One number for all channels, or one number for each channel.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class BoxFormat:
    """The meaning of the four numbers that describe a box.

    Attributes:
        kind: ``boundaries`` (left, top, right, bottom), ``upper_left`` (left, top, width, height),
            ``center`` (center's x and y, width, height), or empty if the file does not say.
        order: For each number that ``kind`` lists, the number's position in the box. SSD models
            give the numbers of ``boundaries`` as top, left, bottom, right, so the order is
            ``(1, 0, 3, 2)``. Empty if the box lists the numbers as ``kind`` does.
        in_pixels: Whether the numbers are pixels; otherwise they are fractions from 0 to 1.
    """

    kind: str
    order: tuple[int, ...]
    in_pixels: bool


@dataclass(frozen=True)
class TensorMetadata:
    """Metadata of one input or output.

    Attributes:
        name: The author's name for the tensor, such as ``image``, ``probability``, ``location``;
            may be empty.
        description: The author's description; may be empty.
        kind: The tensor's content: ``feature``, ``image``, ``boxes``, ``audio``, or empty.
        normalization: How a picture's values from 0 to 255 are normalized, before any quantization;
            None if the file does not say.
        color_space: ``rgb``, ``gray`` or empty.
        rate_hz: Sample rate of sound, in Hz; 0 if the file does not say.
        audio_channels: Number of sound channels; 0 if the file does not say.
        labels: Class names; empty if the file has none for the tensor.
        labels_name: ``axis`` if the labels name the positions on the last axis. ``value`` if the
            labels name the tensor's values, such as the class numbers of SSD models. Empty without
            labels.
        boxes: The meaning of a box's numbers, for an output of boxes; None for other tensors.
        is_scores: Whether the metadata shows that the values are scores, because it contains a
            score calibration or score thresholds.
        files: Names of the packed files that belong to the tensor, such as vocabularies.
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
    """Metadata of a ``.tflite`` file.

    Attributes:
        name: The author's name for the model; may be empty.
        description: The author's description; may be empty.
        inputs: Metadata of each input, in the subgraph's order; empty without metadata.
        outputs: Metadata of each distinct output, in the subgraph's order; empty without metadata.
        files: The files in the ZIP archive that follows the model, by name.
        ultralytics: The dictionary of an Ultralytics export: ``task``, ``imgsz``, and ``names`` as
            a list; None for other files.
        notes: Sentences for the user about metadata that could not be read.
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
        """Class names of the first output with labels.

        If no output has labels, the class names in ``ultralytics``; empty without these.
        """
        for tensor in self.outputs:
            if tensor.labels:
                return tensor.labels
        return tuple((self.ultralytics or {}).get("names", ()))


def read_metadata(data: Bytes, subgraph: int = 0) -> TfliteMetadata:
    """Return the metadata of a ``.tflite`` file; empty if the file has none.

    Args:
        data: The original file's bytes. A slice has no metadata, and a file that was made from one
            signature has none either.
        subgraph: Number of the subgraph whose inputs and outputs the result describes.

    Raises:
        InvalidModelError: The model itself is damaged, and not only the metadata.
    """
    with malformed_as_invalid("the model"):
        model = schema.Model.GetRootAs(data)
        ends = _end_indexes(model, subgraph)
        entries = [model.Metadata(index) for index in range(model.MetadataLength())]
        buffers = [entry.Buffer() for entry in entries if entry.Name() == METADATA_NAME]
    files = PackedFiles(data)
    notes = list(files.notes)
    found = TfliteMetadata()
    if buffers:
        try:
            raw = buffer_bytes(model, buffers[0], data).tobytes()
            found = _read_model(raw, subgraph, files, notes)
        except (*UNREADABLE, InvalidModelError) as error:
            notes.append(f"The model's metadata is damaged and ignored ({one_line(error)}).")
    inputs = _matched(found.inputs, ends[0], "inputs", notes)
    outputs = _matched(found.outputs, ends[1], "outputs", notes)
    return replace(
        found,
        inputs=inputs,
        outputs=outputs,
        files=files,
        ultralytics=read_ultralytics(files),
        notes=tuple(notes),
    )


def _end_indexes(model: Any, subgraph: int) -> tuple[list[int], list[int]]:
    """Return the tensor indexes of a subgraph's inputs and outputs."""
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
    """Return the metadata of each distinct tensor.

    If ``found`` and ``tensors`` differ in length, the result is empty, and a note is added to
    ``notes``.

    Args:
        found: The metadata of the inputs or outputs, in the subgraph's order.
        tensors: Tensor indexes of the subgraph's inputs or outputs.
        what: ``inputs`` or ``outputs``, for the note.
        notes: Notes for the user.
    """
    if found and len(found) != len(tensors):
        notes.append(
            f"The model's metadata describes {len(found)} {what}, but the model has "
            f"{len(tensors)}: the metadata of the {what} is ignored."
        )
        return ()
    distinct: dict[int, TensorMetadata] = {}
    for index, tensor in zip(tensors, found, strict=False):
        distinct.setdefault(index, tensor)
    return tuple(distinct.values())


def _read_model(
    raw: bytes, subgraph: int, files: Mapping[str, bytes], notes: list[str]
) -> TfliteMetadata:
    """Read the root table of the metadata, ``ModelMetadata``."""
    if raw[4:8] != FILE_IDENTIFIER:
        raise ValueError(f"bytes 4 to 7 are {raw[4:8]!r}, expected {FILE_IDENTIFIER!r}")
    root = FlatbufferTable(raw, struct.unpack_from("<I", raw)[0])
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


def _read_tensor(
    table: FlatbufferTable, files: Mapping[str, bytes], notes: list[str]
) -> TensorMetadata:
    """Read a table ``TensorMetadata``, and the label files that the table names."""
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
    units: list[tuple[int, FlatbufferTable | None]], notes: list[str]
) -> Normalization | None:
    for kind, options in units:
        if kind != _NORMALIZATION or options is None:
            continue
        mean, std = options.floats(0), options.floats(1)
        finite = all(abs(value) < float("inf") for value in (*mean, *std))
        if mean and std and finite and min(std) > 0:
            return Normalization(mean, std)
        notes.append(
            f"The model's metadata has a normalization of mean {list(mean)[:4]} and standard "
            f"deviation {list(std)[:4]}, which is invalid and ignored; expected finite numbers, "
            "and deviations above 0."
        )
    return None


def _read_labels(
    associated: list[FlatbufferTable], files: Mapping[str, bytes], notes: list[str]
) -> tuple[tuple[str, ...], Literal["", "axis", "value"]]:
    """Return a tensor's ``labels`` and ``labels_name``; both are empty for a tensor without labels.

    A label file takes precedence if its language is English or not stated.
    """
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
            notes.append(f"The label file {name!r} packed with the model is not UTF-8 text.")
            continue
        lines = re.split(r"\r\n|\r|\n", text)
        while lines and not lines[-1].strip():
            lines.pop()
        return tuple(line.strip() for line in lines), "value" if kind == _VALUE_LABELS else "axis"
    return (), ""
