"""The MODEL argument's kind, from its form and the files it names, and the kind's reader."""

from __future__ import annotations

import inspect
import subprocess
import sys
import typing
from typing import TYPE_CHECKING

import pytest

from edge_partition.model import model_kinds
from edge_partition.model.keras_model import ModelSourceError, load_keras_model
from edge_partition.model.load_model import ModelArgumentError, load_model
from edge_partition.model.model_kinds import MODEL_KINDS, ModelKind, model_kind
from edge_partition.model.reader import ModelRequest, ReadModel, ReadTflite

if TYPE_CHECKING:
    from pathlib import Path

_TFLITE, _SAVED_MODEL = "a .tflite file", "the folder of a SavedModel"
_KERAS_FILE, _FUNCTION = "a .keras or .h5 file", "package.module:function"
_APPLICATION = "the name of a Keras application"


@pytest.mark.parametrize(
    ("source", "description"),
    [
        ("model.tflite", _TFLITE),
        ("folder/MODEL.TFLITE", _TFLITE),
        ("model.keras", _KERAS_FILE),
        ("model.H5", _KERAS_FILE),
        ("model.hdf5", _KERAS_FILE),
        ("my.models:tiny", _FUNCTION),
        ("MobileNetV3Large", _APPLICATION),
        ("folder/that/is/absent", _APPLICATION),
    ],
)
def test_the_form_of_the_argument_gives_the_kind(source: str, description: str) -> None:
    assert model_kind(source).description == description


@pytest.mark.parametrize("name", ["saved_model.pb", "saved_model.pbtxt"])
def test_a_folder_with_a_saved_model_is_one_whatever_its_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "exported.keras"
    folder.mkdir()
    assert model_kind(str(folder)).description == _KERAS_FILE
    (folder / name).touch()
    assert model_kind(str(folder)).description == _SAVED_MODEL


def test_each_kind_has_the_properties_that_the_programs_go_by() -> None:
    def kinds(name: str) -> set[str]:
        return {kind.description for kind in MODEL_KINDS if getattr(kind, name)}

    every = {_TFLITE, _SAVED_MODEL, _KERAS_FILE, _FUNCTION, _APPLICATION}
    assert {kind.description for kind in MODEL_KINDS} == every
    assert kinds("needs_conversion") == every - {_TFLITE}
    assert kinds("is_folder") == {_SAVED_MODEL}
    assert kinds("has_signatures") == {_TFLITE, _SAVED_MODEL}
    assert kinds("keeps_model_name") == {_KERAS_FILE, _FUNCTION, _APPLICATION}


@pytest.mark.parametrize("kind", MODEL_KINDS, ids=lambda kind: kind.reader)
def test_every_reader_in_the_table_exists_and_has_the_one_signature(kind: ModelKind) -> None:
    reader = kind.import_reader()
    assert (reader.__module__, reader.__name__) == tuple(kind.reader.split(":"))
    (parameter,) = inspect.signature(reader).parameters.values()
    assert parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    # Readers import the name for type checkers only.
    types = typing.get_type_hints(reader, localns={"ModelRequest": ModelRequest})
    returned = ReadModel if kind.needs_conversion else ReadTflite
    assert types == {parameter.name: ModelRequest, "return": returned}


_READERS = """
import pathlib

import keras

from edge_partition.model.reader import ModelRequest, ReadModel, ReadTflite
from edge_partition.model.read_tflite_file import read_tflite_file


def read_widths(request):
    widths = [int(word) for word in pathlib.Path(request.source).read_text().split()]
    layers = [keras.layers.Dense(width, name=f"dense_{width}") for width in widths[1:]]
    model = keras.Sequential([keras.Input((widths[0],)), *layers])
    return ReadModel(model, "mlp", labels=("no", "yes"), notes=("Read from widths.",))


def read_renamed(request):
    return read_tflite_file(ModelRequest(request.source.removesuffix(".renamed")))
"""


@pytest.fixture
def two_more_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Add one kind that needs conversion and one that does not, with readers in a new module."""
    (tmp_path / "readers_of_the_test.py").write_text(_READERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "readers_of_the_test", raising=False)
    more = (
        ModelKind(
            "a .widths file",
            matches=lambda source: source.endswith(".widths"),
            reader="readers_of_the_test:read_widths",
        ),
        ModelKind(
            "a .tflite file with another ending",
            matches=lambda source: source.endswith(".renamed"),
            reader="readers_of_the_test:read_renamed",
            needs_conversion=False,
            keeps_model_name=False,
        ),
    )
    monkeypatch.setattr(model_kinds, "MODEL_KINDS", (*more, *MODEL_KINDS))


@pytest.mark.usefixtures("two_more_kinds")
def test_a_kind_that_is_added_to_the_table_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "model.widths").write_text("3 4 2\n")
    loaded = load_model(str(tmp_path / "model.widths"), weights="seeded")
    graph = loaded.tflite.graph
    assert [op.layer for op in graph.operators] == ["dense_4", "dense_2"]
    assert [graph.tensors[index].shape for index in graph.inputs] == [(1, 3)]
    assert (loaded.name, loaded.weights) == ("mlp", "seeded")
    assert loaded.facts.labels == ("no", "yes")
    assert "Read from widths." in loaded.facts.notes
    with pytest.raises(ModelSourceError, match="Leave --signature out"):
        load_model(str(tmp_path / "model.widths"), signature="serve")

    (tmp_path / "digits.tflite").write_bytes(bytes(loaded.tflite.data))
    again = load_model(str(tmp_path / "digits.tflite.renamed"))
    assert (again.name, again.quantization) == ("digits", "as-given")
    assert bytes(again.tflite.data) == bytes(loaded.tflite.data)


def test_the_table_and_a_tflite_file_need_no_tensorflow(tmp_path: Path) -> None:
    (tmp_path / "junk.tflite").write_bytes(b"junk")
    code = (
        "import sys\n"
        "for name in ('tensorflow', 'keras', 'tf_keras'):\n"
        "    sys.modules[name] = None\n"  # None marks a module that cannot be imported
        "from edge_partition.model.load_model import ModelArgumentError, load_model\n"
        "try:\n"
        "    load_model('junk.tflite')\n"
        "except ModelArgumentError as error:\n"
        "    print(error)\n"
        "try:\n"
        "    load_model('MobileNetV2')\n"
        "except ImportError as error:\n"
        "    print(type(error).__name__)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    refused, missing = ran.stdout.splitlines()
    assert refused.startswith("junk.tflite: ")
    assert missing == "ModuleNotFoundError"


def test_a_tflite_file_is_no_keras_model_to_convert() -> None:
    with pytest.raises(ModelSourceError, match=r"m\.tflite: is a \.tflite file, not a Keras model"):
        load_keras_model("m.tflite")


def test_a_tflite_file_with_an_ending_in_capitals_is_read_without_keras(tmp_path: Path) -> None:
    file = tmp_path / "MODEL.TFLITE"
    file.write_bytes(b"junk")
    with pytest.raises(ModelArgumentError, match=r"already a \.tflite file"):
        load_model(str(file), quantization="float16")
