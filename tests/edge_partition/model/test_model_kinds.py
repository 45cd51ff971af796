"""The MODEL argument's kind, from its form and the files it names."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import pytest

from edge_partition.model.load_model import ModelArgumentError, load_model
from edge_partition.model.model_kinds import ModelKind, model_kind

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("model.tflite", ModelKind.TFLITE),
        ("folder/MODEL.TFLITE", ModelKind.TFLITE),
        ("model.keras", ModelKind.KERAS_FILE),
        ("model.H5", ModelKind.KERAS_FILE),
        ("model.hdf5", ModelKind.KERAS_FILE),
        ("my.models:tiny", ModelKind.FUNCTION),
        ("MobileNetV3Large", ModelKind.APPLICATION),
        ("folder/that/is/absent", ModelKind.APPLICATION),
    ],
)
def test_the_form_of_the_argument_gives_the_kind(source: str, kind: ModelKind) -> None:
    assert model_kind(source) is kind


@pytest.mark.parametrize("name", ["saved_model.pb", "saved_model.pbtxt"])
def test_a_folder_with_a_saved_model_is_one_whatever_its_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "exported.keras"
    folder.mkdir()
    assert model_kind(str(folder)) is ModelKind.KERAS_FILE
    (folder / name).touch()
    assert model_kind(str(folder)) is ModelKind.SAVED_MODEL


def test_a_tflite_file_with_an_ending_in_capitals_is_read_without_keras(tmp_path: Path) -> None:
    file = tmp_path / "MODEL.TFLITE"
    file.write_bytes(b"junk")
    with pytest.raises(ModelArgumentError, match=r"already a \.tflite file"):
        load_model(str(file), quantization="float16")


@pytest.mark.tensorflow
def test_every_kind_but_tflite_names_a_reader() -> None:
    for kind in ModelKind:
        assert kind.needs_conversion == (kind is not ModelKind.TFLITE)
        if kind.needs_conversion:
            module, _, function = kind.reader.partition(":")
            assert callable(getattr(import_module(f"edge_partition.model.{module}"), function))
