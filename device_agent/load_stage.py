"""A stage on this board: its files, and the stage loaded and checked against its reference."""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil

from device_agent.artifact_store import Artifact
from device_agent.client_order import ClientOrder
from device_agent.compare_tensors import compare_tensors
from edge_core.contract.manifest import NEEDS_STATE, Manifest
from edge_core.contract.messages import CommandError, ErrorCode
from edge_core.contract.tensors import payload_bytes
from edge_core.errors import EdgePartitionError, ManifestError
from edge_core.runtime.stage_interpreter import StageInterpreter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from device_agent.artifact_store import ArtifactStore
    from edge_core.contract.manifest import Stage

#: What a manifest may need of this agent.
KNOWN_NEEDS = frozenset({NEEDS_STATE})
_MAX_NEEDS_CHARACTERS = 80
_TIMED_RUNS = 5
#: A slow stage is timed fewer times, so that the host's wait stays short.
_TIMED_S = 1.0


@dataclass(frozen=True)
class Reference:
    """An input of a stage and the output that the host computed for it, as payloads."""

    stage: int
    input: Artifact
    output: Artifact

    def to_json(self) -> dict[str, Any]:
        """Return the reference as it stands in ``prepare``."""
        return {
            "stage": self.stage,
            "input": {"sha256": self.input.sha256, "size_bytes": self.input.size_bytes},
            "output": {"sha256": self.output.sha256, "size_bytes": self.output.size_bytes},
        }


@dataclass(frozen=True)
class Assignment:
    """What this board runs of one generation of a deployment."""

    manifest: Manifest
    stages: tuple[Stage, ...]
    references: tuple[Reference, ...]

    def artifacts(self) -> dict[str, Artifact]:
        """Return the files this needs, each once, by SHA-256."""
        files = [Artifact(stage.sha256, stage.size_bytes) for stage in self.stages]
        files += [file for item in self.references for file in (item.input, item.output)]
        return {file.sha256: file for file in files}


@dataclass(frozen=True)
class LoadedStage:
    """A stage that is ready to run.

    Attributes:
        deployment: Which deployment it is of.
        generation: And which generation of that.
        stage: What the manifest says of it.
        is_last: Whether it answers the client.
        interpreter: Its model.
        order: Whose state it holds, where state goes on from request to request.
    """

    deployment: str
    generation: str
    stage: Stage
    is_last: bool
    interpreter: StageInterpreter
    order: ClientOrder | None = None


@dataclass(frozen=True)
class LoadReport:
    """What loading and checking a stage took.

    Attributes:
        stage: The stage's index.
        load_ms: Until the interpreter was ready.
        invoke_ms: Median of a few inferences, each from the initial state where requests start
            from that.
        max_difference: Largest absolute difference from the reference output; 0: the same bits.
        ram_bytes: The agent's resident memory afterwards.
    """

    stage: int
    load_ms: float
    invoke_ms: float
    max_difference: float
    ram_bytes: int


def load_stage(
    assignment: Assignment, stage: Stage, store: ArtifactStore, threads: int
) -> tuple[LoadedStage, LoadReport]:
    """Load a stage, run it on its reference input and compare; no state is left of that.

    Raises:
        CommandError: A file is missing or damaged, the runtime doesn't take the model
            (``cannot-load``), or the output is another (``wrong-result``).
    """
    file = Artifact(stage.sha256, stage.size_bytes)
    reference = next(item for item in assignment.references if item.stage == stage.index)
    for artifact in (file, reference.input, reference.output):
        store.check(artifact)
    manifest = assignment.manifest
    outputs = manifest.sent_by(stage.index)
    state = manifest.state_of(stage)
    try:
        started = time.perf_counter()
        interpreter = StageInterpreter(
            store.path(file), stage.inputs, outputs, num_threads=threads, state=state
        )
        load_ms = (time.perf_counter() - started) * 1000
        payload = store.read(reference.input)
        result = interpreter.invoke(payload)
        invoke_ms = _time_ms(interpreter, payload)
        interpreter.start_over()
    except EdgePartitionError as error:
        raise CommandError(ErrorCode.CANNOT_LOAD, str(error)) from None
    difference = compare_tensors(
        outputs, result, store.read(reference.output), f"Stage {stage.index}"
    )
    loaded = LoadedStage(
        manifest.deployment,
        manifest.generation,
        stage,
        stage.index == len(manifest.stages) - 1,
        interpreter,
        ClientOrder() if state == "keep" else None,
    )
    return loaded, LoadReport(
        stage.index,
        round(load_ms, 3),
        round(invoke_ms, 3),
        difference,
        psutil.Process().memory_info().rss,
    )


def _time_ms(interpreter: StageInterpreter, payload: bytes) -> float:
    times: list[float] = []
    deadline = time.perf_counter() + _TIMED_S
    while not times or (len(times) < _TIMED_RUNS and time.perf_counter() < deadline):
        started = time.perf_counter()
        interpreter.invoke(payload)
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


def read_manifest(command: Mapping[str, Any]) -> Manifest:
    """Read the field ``manifest`` of a command.

    Raises:
        CommandError: With ``bad-command``: it is none.
    """
    try:
        return Manifest.from_json(json.dumps(command.get("manifest")))
    except ManifestError as error:
        raise CommandError(ErrorCode.BAD_COMMAND, str(error)) from None


def check_needs(manifest: Manifest) -> None:
    """Raise if a manifest needs of its agents what this one does not know.

    Raises:
        CommandError: With ``unknown-need``.
    """
    unknown = [need for need in manifest.needs if need not in KNOWN_NEEDS]
    if unknown:
        raise CommandError(
            ErrorCode.UNKNOWN_NEED,
            f"{manifest.deployment} needs {', '.join(unknown)[:_MAX_NEEDS_CHARACTERS]} of its "
            f"agents; this one knows {', '.join(sorted(KNOWN_NEEDS))}. Install the version of "
            "edge-partition that split the model on this board.",
        )


def check_reference_sizes(manifest: Manifest, stage: Stage, reference: Reference) -> None:
    """Raise if a reference's tensors aren't of the size that the manifest says.

    Raises:
        CommandError: With ``bad-command``.
    """
    for artifact, specs, what in (
        (reference.input, stage.inputs, "input"),
        (reference.output, manifest.sent_by(stage.index), "output"),
    ):
        if artifact.size_bytes != payload_bytes(specs):
            raise CommandError(
                ErrorCode.BAD_COMMAND,
                f"The reference {what} of stage {stage.index} has {artifact.size_bytes:,} bytes; "
                f"the manifest says {payload_bytes(specs):,}.",
            )
