"""Third-party models: every ``.tflite`` in the ``mediapipe`` wheel, split in four.

The wheel (36 MB) is downloaded once, to a folder that git ignores; nothing of it is committed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from checkout import CHECKOUT

from edge_partition.bundles.verify_bundle import verify_bundle
from edge_partition.bundles.write_bundle import write_bundle
from edge_partition.model.load_model import load_model
from edge_partition.planning.fleet import equal_fleet
from edge_partition.planning.plan_split import plan_split
from edge_partition.tflite.file_tables import map_file
from edge_partition.tflite.probe_model import CannotRunError, probe_model
from edge_partition.tflite.tflite_metadata import read_metadata

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.slow

#: The last release whose wheel holds its models, whichever Python runs this.
WHEEL = "mediapipe==0.10.21"
FOR = ("--python-version", "3.11", "--platform", "manylinux_2_28_x86_64")
#: Past `.venv*/`, which git ignores.
CACHE = CHECKOUT / ".venv-models"
MODELS = (
    "face_detection_full_range_sparse", "face_detection_short_range", "face_landmark",
    "face_landmark_with_attention", "hand_landmark_full", "hand_landmark_lite", "hand_recrop",
    "iris_landmark", "palm_detection_full", "palm_detection_lite", "pose_detection",
    "pose_landmark_full", "selfie_segmentation", "selfie_segmentation_landscape",
)  # fmt: skip
#: Written for MediaPipe's own runtime, with operators that no other has.
REFUSED = {"face_landmark_with_attention": "Landmarks2TransformMatrix"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Return the wheel's models by name."""
    if not list(CACHE.glob("mediapipe-*.whl")):
        words = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        words += ["--disable-pip-version-check", "--only-binary=:all:", *FOR]
        result = subprocess.run(
            [*words, "--dest", CACHE, WHEEL],
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        if result.returncode and os.environ.get("CI"):
            pytest.fail(f"{WHEEL} can't be downloaded: {result.stderr}")
        if result.returncode:
            pytest.skip(f"{WHEEL} can't be downloaded")
    (wheel,) = CACHE.glob("mediapipe-*.whl")
    folder = tmp_path_factory.mktemp("mediapipe")
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(".tflite")]
        found = {Path(name).stem: Path(archive.extract(name, folder)) for name in names}
    assert sorted(found) == sorted(MODELS)
    return found


@pytest.mark.parametrize("name", sorted(set(MODELS) - set(REFUSED)))
def test_four_parts_of_a_third_party_model_equal_the_whole_bit_for_bit(
    name: str, models: Mapping[str, Path], tmp_path: Path
) -> None:
    model = load_model(str(models[name])).tflite
    bundle = write_bundle(
        tmp_path / "build",
        model,
        plan_split(model.graph, equal_fleet(4), stages=4),
        name=name,
        deployment=name,
        quantization="as-given",
        weights="trained",
    )
    verification = verify_bundle(bundle, count=3)
    assert len(bundle.manifest.stages) == 4
    assert bundle.whole_file.read_bytes() == models[name].read_bytes()
    assert verification.output_spread > 0
    assert (verification.identical, verification.max_difference) == (3, 0)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_custom_operator_that_boards_lack_is_named(name: str, models: Mapping[str, Path]) -> None:
    model = load_model(str(models[name])).tflite
    assert REFUSED[name] in model.custom_operators
    with pytest.raises(CannotRunError) as caught:
        probe_model(name, model.data)
    assert caught.value.custom_operator == REFUSED[name]


@pytest.mark.parametrize(
    ("name", "std", "labels"),
    [
        ("selfie_segmentation", (255.0,), ("selfie",)),
        ("pose_detection", (127.5,), ()),
        ("hand_landmark_full", (255.0, 255.0, 255.0), ("Left", "Right")),
        ("palm_detection_full", (255.0,), ("palm",)),
        ("face_detection_short_range", (127.5,), ()),
    ],
)
def test_metadata_of_pictures_and_labels_is_read(
    name: str, std: tuple[float, ...], labels: tuple[str, ...], models: Mapping[str, Path]
) -> None:
    found = read_metadata(map_file(models[name]))
    normalization = found.inputs[0].normalization
    assert normalization is not None
    mean = 0.0 if std[0] == 255 else 127.5
    assert (normalization.mean, normalization.std) == ((mean,) * len(std), std)
    assert (found.inputs[0].kind, found.inputs[0].color_space) == ("image", "rgb")
    assert (found.labels, found.notes) == (labels, ())
