"""The trained digits model in every quantization: parts equal the whole and read digits.

``docs/quantization.md`` has all 360 digits; this test has 40.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest
from checkout import CHECKOUT
from click.testing import CliRunner
from PIL import Image

from edge_partition.bundles.bundle import read_bundle
from edge_partition.commands.split import command as split
from edge_partition.commands.verify import command as verify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DIGITS = CHECKOUT / "examples" / "digits"
HELD_OUT = sorted((DIGITS / "images").iterdir())[::9]


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sys.path.insert(0, str(DIGITS))
    import digits  # noqa: PLC0415 - the example is no package

    folder = tmp_path_factory.mktemp("calibration")
    for number, image in enumerate(digits.training()[0][::30]):
        Image.fromarray(image).save(folder / f"{number:03d}.png")
    return folder


def run(command: Callable[..., object], *words: object) -> dict[str, object]:
    result = CliRunner().invoke(command, [*map(str, words), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    document: dict[str, object] = json.loads(result.stdout)
    return document


@pytest.mark.parametrize(
    ("quantization", "boundary_dtype", "of_float_size"),
    [("float16", "float32", 0.55), ("dynamic", "float32", 0.3), ("int8", "int8", 0.32)],
)
def test_three_parts_of_the_digits_model_equal_the_whole_and_still_read_digits(
    quantization: str,
    boundary_dtype: str,
    of_float_size: float,
    calibration: Path,
    tmp_path: Path,
) -> None:
    words = ["--calibration", calibration] if quantization == "int8" else []
    # Cuts through a residual and through a squeeze-and-excite gate.
    cuts = ["expanded_conv_7_depthwise", "expanded_conv_13_squeeze_excite_conv_1"]
    run(
        split, DIGITS / "digits.keras", "--quantize", quantization, *words,
        "--cut", cuts[0], "--cut", cuts[1], "-o", tmp_path / "build",
    )  # fmt: skip

    bundle = read_bundle(tmp_path / "build")
    stages = bundle.manifest.stages
    assert bundle.manifest.model.quantization == quantization
    assert [len(stage.inputs) for stage in stages] == [1, 2, 3]
    assert {spec.dtype for stage in stages[1:] for spec in stage.inputs} == {boundary_dtype}
    # The float32 file has 17 MB (docs/quantization.md).
    assert bundle.whole_file.stat().st_size < of_float_size * 17e6
    assert sum(stage.size_bytes for stage in stages) < of_float_size * 17e6

    found = run(verify, tmp_path / "build", *HELD_OUT)
    assert (found["inputs"], found["identical"], found["max_difference"]) == (40, 40, 0)
    assert found["wire"] is None
    accuracy = found["accuracy"]
    assert isinstance(accuracy, dict)
    assert accuracy["parts_right"] == accuracy["whole_right"] >= 39
