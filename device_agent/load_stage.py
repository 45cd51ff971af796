"""Load a stage and check its output against the host's reference output."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from device_agent.artifact_store import Artifact
from device_agent.client_order import ClientOrder
from device_agent.compare_tensors import compare_tensors
from edge_core.contract.messages import CommandError, ErrorCode
from edge_core.errors import EdgePartitionError
from edge_core.runtime.stage_interpreter import StageInterpreter

if TYPE_CHECKING:
    from device_agent.artifact_store import ArtifactStore
    from device_agent.assignment import Assignment
    from edge_core.contract.manifest import Manifest, Stage

_TIMED_RUNS = 5
#: Time after which no further timed run starts, in seconds. The host waits for the report.
_TIMED_S = 1.0


@dataclass(frozen=True)
class LoadedStage:
    """A stage that is ready to run.

    Attributes:
        manifest: The manifest of the stage's generation.
        stage: The stage in the manifest.
        interpreter: Interpreter with the stage's model.
        order: Order of the requests to a stage that keeps its state between requests. None: the
            stage keeps no state.
    """

    manifest: Manifest
    stage: Stage
    interpreter: StageInterpreter
    order: ClientOrder | None = None

    @property
    def deployment(self) -> str:
        """Name of the deployment."""
        return self.manifest.deployment

    @property
    def generation(self) -> str:
        """Name of the generation."""
        return self.manifest.generation

    @property
    def is_last(self) -> bool:
        """Whether this is the last stage, whose outputs go to the client."""
        return self.stage.index == len(self.manifest.stages) - 1


@dataclass(frozen=True)
class LoadReport:
    """Times, accuracy and memory of a stage that was loaded and checked.

    Attributes:
        stage: Index of the stage.
        load_ms: Time to create the interpreter, in milliseconds.
        invoke_ms: Median time of up to five inferences, in milliseconds. The time includes the
            reset to the initial state if each request starts from the initial state.
        max_difference: Largest absolute difference from the reference output; 0: equal values.
        ram_bytes: Resident memory of the agent after loading, in bytes.
    """

    stage: int
    load_ms: float
    invoke_ms: float
    max_difference: float
    ram_bytes: int


def load_stage(
    assignment: Assignment, stage: Stage, store: ArtifactStore, threads: int
) -> tuple[LoadedStage, LoadReport]:
    """Load a stage, run it on its reference input, and compare the outputs with the reference.

    Args:
        assignment: Assignment with the stage and its reference.
        stage: Stage to load.
        store: Store with the files of the assignment.
        threads: Number of threads of the interpreter.

    Returns:
        The loaded stage, in its initial state, and the report about it.

    Raises:
        CommandError: With ``not-found``: a file is incomplete; with ``checksum``: a file is
            damaged; with ``cannot-load``: the runtime cannot load or run the model; with
            ``wrong-result``: the output differs from the reference.
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
    loaded = LoadedStage(manifest, stage, interpreter, ClientOrder() if state == "keep" else None)
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
