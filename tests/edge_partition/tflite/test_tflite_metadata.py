from __future__ import annotations

import io
import json
import random
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest
from metadata_models import (
    Table,
    byte,
    image,
    labelled,
    metadata,
    uint,
    union_type,
    with_files,
    with_metadata,
)
from tflite_models import FlatModel, chain_of_adds

from edge_partition.model.load_model import load_model
from edge_partition.tflite.file_tables import map_file
from edge_partition.tflite.tflite_metadata import (
    BoxFormat,
    Normalization,
    TfliteMetadata,
    read_metadata,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

AXIS, VALUE = 2, 3


def small_model(
    raw: bytes | None, files: Mapping[str, bytes | str] | None = None, outputs: int = 1
) -> bytes:
    flat = FlatModel()
    x = flat.tensor("x")
    made = [flat.add(x, x, f"y{number}") for number in range(outputs)]
    return with_metadata(flat, [x], made, raw, files)


def described(
    input_table: Table, output_table: Table, files: Mapping[str, bytes | str] | None = None
) -> TfliteMetadata:
    return read_metadata(small_model(metadata([input_table], [output_table]), files))


def test_a_file_without_metadata_gives_empty_metadata() -> None:
    found = read_metadata(chain_of_adds())
    assert found.inputs == found.outputs == found.notes == ()
    assert found.ultralytics is None
    assert not found.files
    assert found.labels == ()


@pytest.mark.parametrize(
    ("mean", "std"), [([127.5], [127.5]), ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])]
)
def test_an_image_is_normalized_as_the_file_says(mean: list[float], std: list[float]) -> None:
    found = described(image(mean, std), {0: "probability"})
    (told,) = found.inputs
    assert (found.name, found.description) == ("model", "Made by hand")
    assert (told.name, told.kind, told.color_space) == ("image", "image", "rgb")
    assert told.normalization == Normalization(
        tuple(map(float, np.float32(mean))), tuple(map(float, np.float32(std)))
    )
    assert found.outputs[0].name == "probability"
    assert found.outputs[0].normalization is None


def test_gray_images_sound_and_boxes_are_distinguished() -> None:
    sound = {0: "audio", 3: {0: union_type(4), 1: {0: uint(16000), 1: uint(1)}}}
    boxes = {
        0: "location",
        3: {
            0: union_type(3),
            1: {0: np.uint32([1, 0, 3, 2]), 1: byte(1), 2: byte(0)},
        },
    }
    found = described(sound, boxes)
    assert (found.inputs[0].kind, found.inputs[0].rate_hz) == ("audio", 16000)
    assert found.inputs[0].audio_channels == 1
    assert found.outputs[0].boxes == BoxFormat("boundaries", (1, 0, 3, 2), in_pixels=False)
    gray = described(image([0], [255], color_space=2), {})
    assert gray.inputs[0].color_space == "gray"


def test_labels_come_from_the_packed_files() -> None:
    found = described(
        image([0], [255]),
        labelled("probability", ("labels.txt", AXIS, "")),
        {"labels.txt": "Kätzchen\r\n???\r\n\r\nhund\r\n"},
    )
    # An empty line is a class without a name: the others keep their places.
    assert found.outputs[0].labels == ("Kätzchen", "???", "", "hund")
    assert found.outputs[0].labels_name == "axis"
    assert found.labels == ("Kätzchen", "???", "", "hund")
    assert dict(found.files) == {"labels.txt": "Kätzchen\r\n???\r\n\r\nhund\r\n".encode()}


def test_labels_of_values_belong_to_their_output() -> None:
    raw = metadata(
        [image([127.5], [127.5])],
        [{0: "location"}, labelled("category", ("map.txt", VALUE, "")), {0: "score"}],
    )
    found = read_metadata(small_model(raw, {"map.txt": "person\nbicycle\n"}, outputs=3))
    assert [tensor.labels_name for tensor in found.outputs] == ["", "value", ""]
    assert found.labels == ("person", "bicycle")


@pytest.mark.parametrize(
    ("locales", "chosen"),
    [(("de", "en"), 1), (("de", ""), 1), (("fr", "de"), 0), (("de", "en-US"), 1)],
)
def test_of_several_languages_english_is_taken_first(locales: tuple[str, str], chosen: int) -> None:
    files = [(f"{number}.txt", AXIS, locale) for number, locale in enumerate(locales)]
    found = described({}, labelled("p", *files), {"0.txt": "null", "1.txt": "one"})
    assert found.outputs[0].labels == (("null",), ("one",))[chosen]


def test_scores_that_the_file_thresholds_are_marked() -> None:
    found = described({}, {0: "score", 4: [{0: union_type(3), 1: {}}]})
    assert found.outputs[0].is_scores
    assert not described({}, {0: "score"}).outputs[0].is_scores


def test_a_vocabulary_is_not_a_list_of_labels() -> None:
    found = described({**labelled("ids", ("vocab.txt", 5, ""))}, {}, {"vocab.txt": "a\nb"})
    assert found.inputs[0].labels == ()
    assert found.inputs[0].files == ("vocab.txt",)
    assert found.files["vocab.txt"] == b"a\nb"


def test_one_tensor_named_as_two_outputs_is_described_once() -> None:
    flat = FlatModel()
    x = flat.tensor("x")
    y, z = flat.add(x, x, "y"), flat.add(x, x, "z")
    raw = metadata([{}], [{0: "first"}, {0: "again"}, {0: "last"}])
    found = read_metadata(with_metadata(flat, [x], [y, y, z], raw))
    assert [tensor.name for tensor in found.outputs] == ["first", "last"]


ULTRALYTICS = {
    "description": "Ultralytics YOLO11n model",
    "task": "detect",
    "stride": 32,
    "imgsz": [640, 640],
    "names": {0: "person", 1: "bicycle"},
}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metadata.json", json.dumps(ULTRALYTICS)),
        ("TFLITE_ULTRALYTICS_METADATA.json", json.dumps(ULTRALYTICS)),
        ("temp_meta.txt", str(ULTRALYTICS)),
        ("metadata.json", json.dumps({**ULTRALYTICS, "names": ["person", "bicycle"]})),
    ],
)
def test_an_ultralytics_export_gives_its_task_and_names(name: str, text: str) -> None:
    found = read_metadata(with_files(chain_of_adds(), {name: text}))
    assert found.ultralytics is not None
    assert found.ultralytics["task"] == "detect"
    assert found.ultralytics["imgsz"] == [640, 640]
    assert found.ultralytics["names"] == ["person", "bicycle"]
    assert found.labels == ("person", "bicycle")


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('false')",
        "{'names': __import__('os'), 'stride': 1}",
        "{'names': {0: 'a', 7: 'b'}, 'stride': 1}",
        "{'names': 3, 'stride': 1}",
        '{"names": ["a"]}',
        "{" * 100_000,
        "[" * 1000 + "]" * 1000,
        "{'names': ",
        "",
    ],
)
def test_another_dictionary_or_none_is_not_an_ultralytics_export(text: str) -> None:
    assert read_metadata(with_files(chain_of_adds(), {"meta.txt": text})).ultralytics is None


def test_names_that_lead_out_of_the_archive_are_only_keys(tmp_path: Path) -> None:
    found = read_metadata(with_files(chain_of_adds(), {"../../evil.txt": "x", "/etc/x": "y"}))
    assert found.files["../../evil.txt"] == b"x"
    assert list(tmp_path.iterdir()) == []


def test_a_packed_file_of_absurd_size_is_ignored() -> None:
    stream = io.BytesIO(small_model(metadata([{}], [labelled("p", ("bomb.txt", AXIS, ""))])))
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.txt", bytes(40 << 20))
    data = stream.getvalue()
    assert len(data) < 100_000
    found = read_metadata(data)
    assert "bomb.txt" not in found.files
    assert found.outputs[0].labels == ()
    assert any("bomb.txt" in note for note in found.notes)
    # The archive may lie of the size.
    place = data.rindex((40 << 20).to_bytes(4, "little"))
    lying = data[:place] + (10).to_bytes(4, "little") + data[place + 4 :]
    with pytest.raises(KeyError):
        read_metadata(lying).files["bomb.txt"]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "damaged"),
        (b"\x10\0\0\0XXXX" + bytes(64), "expected b'M001'"),
        (b"\xff\xff\xff\x7fM001" + bytes(64), "damaged"),
        (metadata([{0: "image"}], [{0: "p"}])[:40], "damaged"),
    ],
)
def test_damaged_metadata_is_a_note(raw: bytes, reason: str) -> None:
    found = read_metadata(small_model(raw))
    assert found.inputs == found.outputs == ()
    assert any(reason in note for note in found.notes), found.notes


def test_metadata_that_does_not_fit_the_models_tensors_is_ignored() -> None:
    raw = metadata([image([0], [255]), image([0], [255])], [{0: "p"}])
    found = read_metadata(small_model(raw))
    assert found.inputs == ()
    assert found.outputs[0].name == "p"
    assert any("describes 2 inputs, but the model has 1" in note for note in found.notes)


@pytest.mark.parametrize("std", [[0.0], [-1.0], [float("nan")], [float("inf")], []])
def test_an_invalid_normalization_is_ignored(std: list[float]) -> None:
    found = described(image([127.5], std), {})
    assert found.inputs[0].normalization is None
    assert any("normalization" in note for note in found.notes)


def test_a_missing_or_unreadable_label_file_is_a_note() -> None:
    for files, reason in (({}, "missing"), ({"labels.txt": b"\xff\xfe\0"}, "not UTF-8")):
        found = described({}, labelled("p", ("labels.txt", AXIS, "")), files)
        assert found.outputs[0].labels == ()
        assert any(reason in note for note in found.notes), found.notes


def test_every_byte_of_metadata_may_be_damaged_and_the_model_still_loads(tmp_path: Path) -> None:
    """Damage in the metadata's buffer or the archive gives metadata or a note, never an error."""
    raw = metadata(
        [image([127.5], [127.5])], [labelled("p", ("labels.txt", AXIS, "en"))], name="sound"
    )
    data = small_model(raw, {"labels.txt": "a\nb\n"})
    start = data.index(raw)
    places = [*range(start, start + len(raw)), *range(data.index(b"PK\3\4"), len(data))]
    sound = read_metadata(data)
    assert sound.labels == ("a", "b")
    rng = random.Random(5)  # noqa: S311 - the same damage in every run
    changed = 0
    for _ in range(400):
        damaged = bytearray(data)
        for _ in range(rng.choice((1, 2, 8))):
            damaged[rng.choice(places)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        found = read_metadata(bytes(damaged))
        changed += (found.inputs, found.labels) != (sound.inputs, sound.labels)
    assert changed > 50
    path = tmp_path / "damaged.tflite"
    path.write_bytes(data[:start] + b"\xff" * len(raw) + data[start + len(raw) :])
    assert len(load_model(str(path)).tflite.graph.operators) == 1


def test_a_mapped_file_is_read_like_bytes(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    data = small_model(
        metadata([image([0], [255])], [labelled("p", ("l.txt", AXIS, ""))]), {"l.txt": "a\nb"}
    )
    path.write_bytes(data)
    mapped = read_metadata(map_file(path))
    assert mapped.labels == ("a", "b")
    assert mapped.inputs == read_metadata(data).inputs
