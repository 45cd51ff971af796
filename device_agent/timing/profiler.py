"""Measure the time of a slice of a model on this board, for the command ``profile``.

Caches: a small slice that runs again and again finds its own weights in the caches. As a part of a
stage, the same slice is slower, because the rest of the stage displaces the weights from the
caches. Before each timed run, the agent therefore reads ``displaced_bytes`` bytes, the size of the
rest of a stage. The host sends this number.

Batches: the agent runs the slice in batches of 0.1 s. The time of a batch is the mean time of its
runs, because the means of slices add up to the mean of a stage. Medians do not add up: a busy or
throttled processor delays a few of many short runs, but most long runs. The result is the median
over the batches, which leaves out a disturbed batch.

Processor time: with one inference thread, the wall time of a batch is divided between runs and
reading in proportion to their processor time. Under a processor quota, for example in a container,
the kernel pauses a process in regular intervals. The pauses can be in step with the runs. Measured
wall times would then assign all pauses either to the runs or to the reading.
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

#: Length of a batch in seconds, equal to the period of Linux's processor quotas (kernel.org,
#: sched-bwc).
_BATCH_S = 0.1
#: The median has settled if each of the last _SETTLED_BATCHES batches changed the median by less
#: than this fraction.
_SETTLED = 0.02
_SETTLED_BATCHES = 2
#: Number of runs before the timed runs. The first runs are slower: caches are cold, and pages of
#: the model are not mapped yet.
_WARM_UP_RUNS = 2


@dataclass(frozen=True)
class Piece:
    """A slice of a model, and how the agent measures its time.

    Attributes:
        stage: The slice, as the only stage of a manifest.
        displaced_bytes: Number of bytes to read before each timed run, if the board has the memory.
        max_s: Time limit, in seconds. At the limit, the agent answers with the median so far, even
            if the median has not settled.
        force: Whether the agent measures even if the board serves a deployment.
    """

    stage: Stage
    displaced_bytes: int
    max_s: float
    force: bool

    @property
    def file(self) -> Artifact:
        """File of the slice."""
        return Artifact(self.stage.sha256, self.stage.size_bytes)

    @property
    def ram_bytes(self) -> int:
        """Estimated memory that the agent needs to load and run the slice, in bytes."""
        tensor_bytes = payload_bytes(self.stage.inputs) + payload_bytes(self.stage.outputs)
        model_bytes = max(self.stage.size_bytes, self.stage.predicted.ram_bytes)
        return model_bytes + 2 * tensor_bytes


@dataclass(frozen=True)
class _Times:
    """The measured times of a slice.

    Attributes:
        invoke_ms: Mean time of a run in a batch, in milliseconds; the median over all batches.
        spread_ms: Difference between the slowest and the fastest batch, in milliseconds.
        runs: Total number of runs in the batches.
        settled: Whether the median settled within ``max_s``.
    """

    invoke_ms: float
    spread_ms: float
    runs: int
    settled: bool


def read_piece(device: str, command: Mapping[str, Any]) -> Piece:
    """Read the fields of a ``profile`` command.

    Raises:
        CommandError: With ``bad-command``: a field is missing or wrong.
    """
    manifest = read_manifest(command)
    if len(manifest.stages) != 1 or manifest.stages[0].devices != (device,):
        raise CommandError(
            ErrorCode.BAD_COMMAND,
            "The field `manifest` of a `profile` command is wrong: expected one stage, with board "
            f"{device} as its only board.",
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
    """Load a slice, run it until its median time settles, and return the fields of the answer.

    Args:
        piece: Slice to time.
        path: Complete and checked file of the slice.
        threads: Number of threads of the interpreter.
        displaced_bytes: Number of bytes to read before each timed run.

    Returns:
        The attributes of :class:`_Times`, and ``temperature_c`` and ``clock_mhz`` of the board.

    Raises:
        CommandError: With ``cannot-load``: the runtime cannot load or run the slice.
    """
    try:
        interpreter = StageInterpreter(
            *(path, piece.stage.inputs, piece.stage.outputs),
            num_threads=threads,
            # By default each request starts from the initial state, and the reset takes time.
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
    """Return input values: seeded random floats, or zeros for integers, which may be indexes."""
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
