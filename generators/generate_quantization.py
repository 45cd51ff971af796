"""Write ``docs/quantization.md``: the cost of each quantization of the digits model.

    python generators/generate_quantization.py

The script takes about two minutes. Each row of the document runs the 360 held-out digits through
the whole model and through three parts. The two cuts are the same in every row: one through a
residual, one through a squeeze-and-excite gate.
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
    from edge_partition.bundles.compare_outputs import Accuracy
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
#: Every 15th of the 1,437 training digits calibrates int8: 96 digits.
CALIBRATION_STEP = 15

sys.path.insert(0, str(DIGITS))
import digits  # noqa: E402 -- the example is no package


@dataclass(frozen=True)
class Row:
    """One quantization with one data type between boards, run on all held-out digits."""

    quantization: str
    wire: str
    bundle: Bundle
    verification: Verification

    @property
    def parts_accuracy(self) -> str:
        """The share of digits that the three parts classify correctly, in percent."""
        return f"{self._accuracy.parts_right / self.verification.inputs:.2%}"

    @property
    def _accuracy(self) -> Accuracy:
        if self.verification.accuracy is None:
            raise TypeError("the held-out digits have no labels")
        return self.verification.accuracy

    def cells(self) -> list[str]:
        """Return the table's cells."""
        verification, manifest = self.verification, self.bundle.manifest
        accuracy, wire = self._accuracy, verification.wire
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
            f"{self.parts_accuracy} ({accuracy.parts_right})",
            f"{verification.identical} of {count}"
            if wire is None
            else f"{wire.max_difference:.1e} off",
            *crossing,
        ]


def measure(folder: Path) -> Iterator[Row]:
    """Yield the rows; each quantization is converted once."""
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
            raise ValueError(f"{quantization}: the parts' outputs differ from the whole model's")
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
    shapes = [
        ", ".join("x".join(map(str, spec.shape)) for spec in stage.inputs)
        for stage in rows[0].bundle.manifest.stages[1:]
    ]
    clamped = sum(row.verification.wire.clamped for row in rows if row.verification.wire)
    accuracies = sorted({row.parts_accuracy for row in rows})
    rounded = max(row.verification.wire.max_difference for row in rows if row.verification.wire)
    return f"""# Quantization

<!-- Written by generators/generate_quantization.py. Change the generator, not this file. -->

**Splitting changes no byte of the answers, in any quantization.** Only `--wire float16` rounds.
Here a class's probability changes by at most {rounded:.1e}, and three parts classify
{" to ".join(accuracies)} of the {rows[0].verification.inputs} held-out digits correctly.

{table}

The model is the [digits model](../examples/digits/README.md), a MobileNetV3Large with inputs of
96x96, split over three boards.
{len(range(0, 1437, CALIBRATION_STEP))} training digits calibrated int8.

- **Cut 1** is after `{CUT_AFTER[0]}` and goes through a residual. These tensors cross:
  {shapes[0]}.
- **Cut 2** is after `{CUT_AFTER[1]}` and goes through a
  squeeze-and-excite gate. These tensors cross: {shapes[1]}.
- **Parts against whole**: the number of digits for which every output byte of the three chained
  parts equals the whole model's. The model is converted once and its file is sliced; therefore all
  digits are equal in each quantization. With `--wire float16`, the column shows the largest
  difference between the parts' and the whole model's probability of a class; without the rounding,
  the same parts are exact. `verify` checks both.
- **Bytes at a cut**: the MQTT payload of one request. int8 activations travel unchanged, with their
  scale in the model: a quarter of the bytes, and no further error.

## Which to choose

- `--quantize none`: float32, the reference.
- `--quantize float16`: weights in float16, computation in float32. Half the file size.
- `--quantize dynamic`: weights in int8, activations in float32. A quarter of the file size.
- `--quantize int8 --calibration FOLDER`: weights and activations in int8. A quarter of the file
  size and of the bytes between boards. The folder holds about 100 typical inputs (images, `.npy` or
  `.npz`), which set the scales. The model's own inputs and outputs keep their Keras types.
- `--wire float16`, with any of the first three: float32 activations travel between boards as
  float16. The stages' files are the same; the manifest says `float16` where the file has float32.
  Each board converts the tensors that it receives and sends. A board forwards other tensors
  unchanged. The model's own inputs and outputs are not converted, even where they cross a cut.

A value beyond float16's range (65,504) is sent as the largest float16 with its sign, not as
infinity. One infinity can turn the whole answer into NaN two layers later; a smaller large number
seldom changes the answer. `verify` counts these values: {clamped:,} here.
"""


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch, kept_converter():
        DOCUMENT.write_text(render(list(measure(Path(scratch)))), encoding="utf-8")
