"""Assignments and generations for tests of a board's deployments, without files or models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from device_agent.artifact_store import Artifact
from device_agent.assignment import Assignment, Reference
from device_agent.deployments import Deployments, Generation
from edge_core.contract.manifest import Manifest, ModelInfo, Predicted, Stage, TensorSpec

SPEC = (TensorSpec("x", "float32", (1, 4)),)


@dataclass(frozen=True)
class Loaded:
    """A stand-in for an interpreter, which the state machine never uses."""

    generation: str
    stage: Stage


def manifest(generation: str, *boards: tuple[str, ...], name: str = "net") -> Manifest:
    stages = tuple(
        Stage(
            index=index,
            devices=devices,
            file=f"stages/{index}.tflite",
            sha256=f"{generation}{index}".ljust(64, "0"),
            size_bytes=10,
            inputs=SPEC,
            outputs=SPEC,
            predicted=Predicted(invoke_ms=1.0, ram_bytes=1),
        )
        for index, devices in enumerate(boards)
    )
    model = ModelInfo(name="m", sha256="0" * 64, quantization="none")
    return Manifest(name, generation, model, SPEC, SPEC, stages)


def assignment(generation: str, *boards: tuple[str, ...], name: str = "net") -> Assignment:
    whole = manifest(generation, *boards, name=name)
    stages = whole.stages_of("pi-1")
    references = tuple(
        Reference(stage.index, Artifact("a" * 64, 16), Artifact("b" * 64, 16)) for stage in stages
    )
    return Assignment(whole, stages, references)


def load(held: Deployments, taken: Assignment, now_s: float = 0.0) -> None:
    """Prepare and load an assignment."""
    held.begin_prepare(taken.manifest.deployment)
    held.expect_files(taken)
    held.finish_load(generation_of(taken), now_s)


def generation_of(taken: Assignment) -> Generation:
    loaded: Any = tuple(Loaded(taken.manifest.generation, stage) for stage in taken.stages)
    return Generation(taken, loaded)
