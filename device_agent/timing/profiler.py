"""Times a piece of a model on this board, as the host's ``profile`` asks.

What a piece finds in the caches is what the rest of a stage leaves there. A small piece that runs
alone, again and again, would find its own weights, and seem faster than it is as part of a stage:
before each timed run as many bytes are read as the host says the rest of a stage has.

Runs are taken in batches, and a batch's time is its mean: what a busy or throttled processor adds
falls on few short runs and on many long ones, so that means add up to a stage's, and medians of
runs don't. The median over the batches leaves out what disturbed one of them.

Where one thread infers, a batch's time is shared out between runs and reading by processor time:
under a quota (a container's) the kernel stops a process at points that keep step with the runs, and
the clock would count the stops to one or the other.
"""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from device_agent.artifact_store import Artifact
from device_agent.assignment import read_manifest, reading_fields
from device_agent.telemetry.board import read_clock_mhz, read_temperature_c
from edge_core.contract.json_fields import Field
from edge_core.contract.messages import MAX_DISPLACED_BYTES, MAX_PROFILE_S, CommandError, ErrorCode
from edge_core.contract.tensors import payload_bytes, wire_dtype
from edge_core.errors import EdgePartitionError
from edge_core.runtime.stage_interpreter import StageInterpreter

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edge_core.contract.manifest import Stage, TensorSpec

#: As long as a period of Linux's processor quotas (kernel.org, sched-bwc: 100 ms).
_BATCH_S = 0.1
#: The median has settled when another batch moved it by less than this, so many times in a row.
_SETTLED = 0.02
_SETTLED_BATCHES = 2
#: The first runs find cold caches and unmapped pages.
_WARM_UP_RUNS = 2


@dataclass(frozen=True)
class Piece:
    """A slice of a model to be timed.

    Attributes:
        stage: The slice, as the only stage of a manifest.
        displaced_bytes: To be read before each timed run, as far as the board has memory for it;
            see the module's text.
        max_s: Seconds after which the median is taken as it is.
        force: Also while a deployment is served.
    """

    stage: Stage
    displaced_bytes: int
    max_s: float
    force: bool

    @property
    def file(self) -> Artifact:
        """The slice's file."""
        return Artifact(self.stage.sha256, self.stage.size_bytes)

    @property
    def ram_bytes(self) -> int:
        """What timing it takes beside the agent, by the host's estimate of the slice."""
        tensor_bytes = payload_bytes(self.stage.inputs) + payload_bytes(self.stage.outputs)
        model_bytes = max(self.stage.size_bytes, self.stage.predicted.ram_bytes)
        return model_bytes + 2 * tensor_bytes


@dataclass(frozen=True)
class _Times:
    """A piece's times.

    Attributes:
        invoke_ms: Median over batches of their runs' mean.
        spread_ms: From the fastest batch to the slowest.
        runs: In all batches.
        settled: Whether the median stood still before ``max_s`` was over.
    """

    invoke_ms: float
    spread_ms: float
    runs: int
    settled: bool


def read_piece(device: str, command: Mapping[str, Any]) -> Piece:
    """Read the fields of ``profile``.

    Raises:
        CommandError: With ``bad-command``: they are not what they should be.
    """
    manifest = read_manifest(command)
    if len(manifest.stages) != 1 or manifest.stages[0].devices != (device,):
        raise CommandError(
            ErrorCode.BAD_COMMAND, f"A profile needs a `manifest` of one stage for {device}."
        )
    with reading_fields():
        fields = Field(command, root="command")
        return Piece(
            manifest.stages[0],
            fields["displaced_bytes"].whole(0, MAX_DISPLACED_BYTES),
            fields["max_s"].number(0, MAX_PROFILE_S, above=True),
            fields.get("force").value is True,
        )


def time_piece(piece: Piece, path: Path, *, threads: int, displaced_bytes: int) -> dict[str, Any]:
    """Load a piece, run it until its median settles, and return the answer's fields.

    Args:
        piece: What to time.
        path: Its file, complete and checked.
        threads: Threads of one inference.
        displaced_bytes: Read before each timed run.

    Raises:
        CommandError: With ``cannot-load``: the runtime does not take it, or it does not run.
    """
    try:
        interpreter = StageInterpreter(
            *(path, piece.stage.inputs, piece.stage.outputs),
            num_threads=threads,
            # Requests mostly start from the initial state, and getting back to it takes time.
            state="reset" if piece.stage.state else "",
        )
        times = _time_ms(interpreter, piece, displaced_bytes, one_thread=threads == 1)
    except EdgePartitionError as error:
        raise CommandError(ErrorCode.CANNOT_LOAD, str(error)) from None
    return {
        **asdict(times),
        "temperature_c": read_temperature_c(),
        "clock_mhz": read_clock_mhz(),
    }


def _time_ms(
    interpreter: StageInterpreter, piece: Piece, displaced_bytes: int, *, one_thread: bool
) -> _Times:
    payload = _payload(piece.stage.inputs)
    displacing = np.ones(displaced_bytes, np.uint8)
    clock = time.thread_time if one_thread else time.perf_counter
    for _ in range(_WARM_UP_RUNS):
        interpreter.invoke(payload)
    runs = steady = 0
    batch_ms: list[float] = []
    median_ms = math.inf
    deadline = time.perf_counter() + piece.max_s
    while not batch_ms or (steady < _SETTLED_BATCHES and time.perf_counter() < deadline):
        spent_s, batch_runs = 0.0, 0
        batch_start, batch_clock_start = time.perf_counter(), clock()
        batch_end = min(deadline, batch_start + _BATCH_S)
        while batch_runs == 0 or time.perf_counter() < batch_end:
            displacing.max(initial=0)
            started = clock()
            interpreter.invoke(payload)
            spent_s += clock() - started
            batch_runs += 1
        runs += batch_runs
        spent_s *= (time.perf_counter() - batch_start) / (clock() - batch_clock_start)
        batch_ms.append(spent_s * 1000 / batch_runs)
        before_ms, median_ms = median_ms, statistics.median(batch_ms)
        steady = steady + 1 if abs(median_ms - before_ms) < _SETTLED * median_ms else 0
    return _Times(median_ms, max(batch_ms) - min(batch_ms), runs, steady == _SETTLED_BATCHES)


def _payload(specs: tuple[TensorSpec, ...]) -> bytes:
    """Return seeded inputs: floats vary; integers, which may be indexes, are 0."""
    generator = np.random.default_rng(0)
    parts = []
    for spec in specs:
        values = (
            generator.standard_normal(spec.shape)
            if np.issubdtype(np.dtype(spec.dtype), np.floating)
            else np.zeros(spec.shape)
        )
        parts.append(values.astype(wire_dtype(spec.dtype)).tobytes())
    return b"".join(parts)
