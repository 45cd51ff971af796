"""Write ``quantization.md``: what each quantization of the digits model costs, whole and split.

    python generators/generate_quantization.py

Takes some two minutes. The model is cut at the same two layers in every row, one cut through a
residual and one through a squeeze-and-excite gate, and run on the 360 held-out digits.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_core.contract.tensors import encode_tensors, payload_bytes
from edge_partition.bundles.verify_bundle import verify_bundle
from edge_partition.bundles.write_bundle import write_bundle
from edge_partition.model.converter_process import kept_converter
from edge_partition.model.load_model import load_model
from edge_partition.planning.fleet import equal_fleet
from edge_partition.planning.plan_split import plan_split

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_partition.bundles.bundle import Bundle
    from edge_partition.bundles.verify_bundle import Verification
    from edge_partition.tflite.graph import Wire

DOCUMENT = Path(__file__).parents[1] / "docs" / "quantization.md"
DIGITS = Path(__file__).parents[1] / "examples" / "digits"
CUT_AFTER = ("expanded_conv_7_depthwise", "expanded_conv_13_squeeze_excite_conv_1")
ROWS: tuple[tuple[str, Wire], ...] = (
    ("none", "float32"),
    ("none", "float16"),
    ("float16", "float32"),
    ("dynamic", "float32"),
    ("dynamic", "float16"),
    ("int8", "float32"),
)
#: Every 15th training digit calibrates int8: 96 of them.
CALIBRATION_STEP = 15

sys.path.insert(0, str(DIGITS))
import digits  # noqa: E402 -- the example is no package


@dataclass(frozen=True)
class Row:
    """One quantization on one wire, run on all held-out digits."""

    quantization: str
    wire: str
    bundle: Bundle
    verification: Verification

    def cells(self) -> list[str]:
        """Return the table's cells."""
        verification, manifest = self.verification, self.bundle.manifest
        accuracy, wire = verification.accuracy, verification.wire
        if accuracy is None:
            raise TypeError("no held-out digit has a label")
        name = f"`--quantize {self.quantization}`"
        if wire is not None:
            name += f" `--wire {self.wire}`"
        count = verification.inputs
        stage_kib = [f"{stage.size_bytes / 1024:,.0f}" for stage in manifest.stages]
        crossing = [f"{payload_bytes(stage.inputs):,}" for stage in manifest.stages[1:]]
        return [
            name,
            f"{self.bundle.whole_file.stat().st_size / 1024:,.0f}",
            " + ".join(stage_kib),
            f"{accuracy.whole_right / count:.2%} ({accuracy.whole_right})",
            f"{accuracy.parts_right / count:.2%} ({accuracy.parts_right})",
            f"{verification.identical} of {count}"
            if wire is None
            else f"{wire.max_difference:.1e} off",
            *crossing,
        ]


def measure(folder: Path) -> Iterator[Row]:
    """Convert once a quantization, split, and run whole and parts."""
    images, labels = digits.held_out()
    samples = digits.training()[0][::CALIBRATION_STEP]
    loaded: Any = None
    for number, (quantization, wire) in enumerate(ROWS):
        if loaded is None or loaded.quantization != quantization:
            print(f"converting: {quantization}", file=sys.stderr)
            loaded = load_model(
                str(DIGITS / "digits.keras"),
                quantization=quantization,
                calibration=(lambda _model: ([image] for image in _batches(samples)))
                if quantization == "int8"
                else None,
            )
        graph = loaded.tflite.graph
        cuts = [graph.position_after(layer) for layer in CUT_AFTER]
        bundle = write_bundle(
            folder / str(number),
            loaded.tflite,
            plan_split(graph, equal_fleet(3), cuts=cuts, wire=wire),
            name=loaded.name,
            deployment="digits",
            quantization=quantization,
            weights=loaded.weights,
            facts=loaded.facts,
        )
        (spec,) = bundle.manifest.inputs
        payloads = [encode_tensors([spec], {spec.name: image}) for image in _batches(images)]
        verification = verify_bundle(bundle, payloads, classes=[int(label) for label in labels])
        if not verification.exact:
            raise ValueError(f"{quantization}: parts differ from the whole")
        yield Row(quantization, wire, bundle, verification)


def _batches(images: np.ndarray) -> Iterator[np.ndarray]:
    for image in images:
        yield image[None].astype(np.float32)


def render(rows: list[Row]) -> str:
    """Return the document."""
    head = [
        "", "whole, KiB", "parts, KiB", "accuracy, whole", "accuracy, three parts",
        "parts against whole", "bytes at cut 1", "bytes at cut 2",
    ]  # fmt: skip
    cells = [row.cells() for row in rows]
    table = "\n".join(
        f"| {' | '.join(line)} |" for line in (head, ["---"] + ["---:"] * (len(head) - 1), *cells)
    )
    shapes = "; ".join(
        " and ".join("x".join(map(str, spec.shape)) for spec in stage.inputs)
        for stage in rows[0].bundle.manifest.stages[1:]
    )
    clamped = sum(row.verification.wire.clamped for row in rows if row.verification.wire)
    return f"""# Quantization

<!-- Written by generators/generate_quantization.py; change that. -->

The [digits model](../examples/digits/README.md), a MobileNetV3Large of 96x96 inputs, in every
quantization: on the {rows[0].verification.inputs} held-out digits, whole, and split over three
boards. Cut 1 is after `{CUT_AFTER[0]}`, where a residual crosses, cut 2 after
`{CUT_AFTER[1]}`, where a squeeze-and-excite gate does:
{shapes}. int8 was calibrated with
{len(range(0, 1437, CALIBRATION_STEP))} training digits.

{table}

**Parts against whole** counts the digits for which every output byte of the chain of three parts is
the whole model's. The model is converted once and its file is sliced, so in every quantization that
is all of them. A float16 wire rounds on purpose: there, the table has the largest difference of any
class's probability from the whole model's. With
nothing rounded, the same parts are exact too: `verify` checks both.

**Bytes** are what one request sends over each cut, in MQTT's payload. int8 activations travel as
they are, with the scale they have in the model: a quarter of the bytes, and no further error.

## Which to choose

- `--quantize none`: float32. The reference.
- `--quantize float16`: weights as float16, computed in float32. Half the file.
- `--quantize dynamic`: weights as int8, activations float32. A quarter of the file.
- `--quantize int8 --calibration FOLDER`: weights and activations as int8: a quarter of the file and
  of the bytes between boards. The folder holds some 100 typical inputs, images, `.npy` or `.npz`,
  which set the scales. The model's own inputs and outputs stay as they are in Keras.
- `--wire float16`, with any of the first three: float32 activations between boards are sent as
  float16. The stages' files are the same; only the manifest says `float16` where the file has
  float32, and each board widens what it gets and narrows what it sends. Tensors that a board only
  passes on are not touched. The model's own inputs and outputs travel as they are, also where they
  cross a cut.

What is beyond float16's range (65,504) is sent as the largest float16 with its sign, not as an
infinity: one infinity can turn a whole answer into NaN two layers on, a large number that came out
smaller seldom changes it. `verify` counts such values: {clamped:,} here.
"""


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch, kept_converter():
        DOCUMENT.write_text(render(list(measure(Path(scratch)))), encoding="utf-8")
