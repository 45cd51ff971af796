"""Manifests of models whose outputs are scores or boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_core.contract.manifest import Manifest, ModelInfo, Pixels, Predicted, Stage, TensorSpec

if TYPE_CHECKING:
    from edge_partition.answers.answers import Answer

ABC = ("ant", "bee", "cat")
PICTURE = TensorSpec("image", "float32", (1, 100, 200, 3), pixels=Pixels("rgb", (0.0,), (1.0,)))


def manifest_of(
    *outputs: TensorSpec,
    labels: tuple[str, ...] = (),
    detections: str = "",
    picture: TensorSpec = PICTURE,
) -> Manifest:
    stage = Stage(0, ("pi",), "stages/0.tflite", "0" * 64, 1, (picture,), outputs, Predicted(0, 0))
    model = ModelInfo("m", "0" * 64, "none", labels=labels, detections=detections)
    return Manifest("m", "g", model, (picture,), outputs, (stage,))


SSD = (
    TensorSpec("TFLite_Detection_PostProcess", "float32", (1, 3, 4)),
    TensorSpec("TFLite_Detection_PostProcess:1", "float32", (1, 3)),
    TensorSpec("TFLite_Detection_PostProcess:2", "float32", (1, 3)),
    TensorSpec("TFLite_Detection_PostProcess:3", "float32", (1,)),
)


def sides(answer: Answer) -> list[tuple[float, ...]]:
    assert answer.boxes is not None
    return [
        tuple(round(side, 3) for side in (box.left, box.top, box.right, box.bottom))
        for box in answer.boxes
    ]
