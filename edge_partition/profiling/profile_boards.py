"""Have boards measure a model: each board times slices of the model, and messages.

A slice is a range of operators. Boards on different machines time slices at the same time. Agents
on one machine time slices one after another, because the agents share the processor. Messages are
timed before the slices, by one board at a time, because all boards share the broker.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from edge_core.contract.json_fields import Field, FieldError
from edge_core.contract.manifest import Manifest, ModelInfo, Predicted, Stage, TensorSpec
from edge_core.contract.messages import (
    MAX_TIMED_MESSAGE_BYTES,
    CommandError,
    ErrorCode,
    decode_json,
)
from edge_core.contract.topics import DEFAULT_PREFIX
from edge_core.errors import EdgePartitionError
from edge_core.mqtt.agent_requests import NoAnswerError
from edge_partition.boards.board_client import (
    CHUNK_OVERHEAD_BYTES,
    BoardClient,
    UnknownBoardError,
)
from edge_partition.planning.agent_limits import read_ram_limit_mib
from edge_partition.planning.cost_model import stage_cost
from edge_partition.planning.fit_messages import TimedMessage
from edge_partition.planning.fleet import Device
from edge_partition.planning.stage_memory import AGENT_RAM_BYTES
from edge_partition.planning.stage_times import TimedSlice
from edge_partition.profiling.choose_slices import choose_slices, displaced_bytes
from edge_partition.profiling.profile_store import BoardProfile
from edge_partition.tflite.slice_model import slice_model

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from edge_core.mqtt.broker_address import BrokerAddress
    from edge_partition.tflite.graph import Graph
    from edge_partition.tflite.read_tflite import TfliteModel

    Progress = Callable[[str, int, int], None]

#: Longest time for which a board times one slice, in seconds. Meanwhile the board answers no other
#: command.
_SLICE_S = 2.0
#: Longest wait for the answer about one slice, in seconds. The board also loads the slice in this
#: time, and a single inference may take longer than ``_SLICE_S``.
_SLICE_TIMEOUT_S = 120.0
#: Longest wait until an agent that has just started publishes its runtime, in seconds.
_RUNTIME_WAIT_S = 10.0

_MESSAGE_BYTES = (1_000, 16_000, 64_000, 256_000)
#: Longest wait for the answer about messages of one size, in seconds, for the slowest links.
_MESSAGE_TIMEOUT_S = 60.0


class ProfileRefusedError(EdgePartitionError):
    """A board refused to measure, or did not answer.

    Attributes:
        board: Name of the board.
        code: The agent's error code, or ``no-answer``, ``bad-answer`` or ``interrupted``.
        reason: The cause in a sentence.
    """

    def __init__(self, board: str, code: str, reason: str) -> None:
        self.board = board
        self.code = code
        self.reason = reason
        super().__init__(f"Board {board} was not measured: {reason.rstrip('.')} ({code}).")


@dataclass(frozen=True)
class Board:
    """A board that is online.

    Attributes:
        name: Name of the agent.
        runtime: The TFLite runtime and its version.
        threads: Threads of one inference.
        machine: Identifier of the machine; equal for agents that share a processor.
        ram_mib: Memory limit of the agent (``--ram-mib``), in MiB; ``None`` without a limit.
    """

    name: str
    runtime: str
    threads: int
    machine: str
    ram_mib: float | None = None


@dataclass(frozen=True)
class MessageTimes:
    """Times of messages from a board to itself through the broker.

    Attributes:
        timed: Times of messages, for each message size.
        cores: Number of processors that the agent gets while its inference threads and one more
            thread are busy.
    """

    timed: tuple[TimedMessage, ...]
    cores: float


@dataclass(frozen=True)
class _Timed:
    slices: tuple[TimedSlice, ...]
    temperatures_c: list[float]
    clocks_mhz: list[float]
    unsettled: int
    no_memory: ProfileRefusedError | None


class Profiler(BoardClient):
    """A connection for measurements: boards time the slices of a model, and messages.

    A context manager: entering the context connects.
    """

    def __init__(self, broker: str | BrokerAddress, *, prefix: str = DEFAULT_PREFIX) -> None:
        """Prepare a connection; entering the context connects to the broker.

        Args:
            broker: Address of the broker.
            prefix: Prefix of the topics.
        """
        super().__init__(broker, prefix=prefix)
        self._interrupted = threading.Event()

    def boards(
        self, names: Sequence[str] = (), *, among: Collection[str] | None = None
    ) -> tuple[Board, ...]:
        """Return boards that are online, with the properties in their retained messages.

        Args:
            names: Names of the boards to return, in this order. All of these boards must be
                online. Without names, all boards that are online are returned, sorted by name.
            among: Names of the boards that may be returned; ``None``: any board.

        Raises:
            UnknownBoardError: A board in ``names`` is not online.
            ProfileRefusedError: A board does not publish its runtime.
        """
        online = [name for name in self._online() if among is None or name in among]
        missing = [name for name in names if name not in online]
        if missing:
            raise UnknownBoardError(missing, online)
        deadline = time.monotonic() + _RUNTIME_WAIT_S
        while True:
            profiles = self._retained(self._topics.profile("+"))
            boards = {
                name: _read_board(name, profiles.get(self._topics.profile(name), b"{}"))
                for name in names or online
            }
            silent = [name for name, board in boards.items() if board is None]
            if not silent:
                return tuple(board for board in boards.values() if board is not None)
            if time.monotonic() > deadline:
                raise ProfileRefusedError(
                    silent[0],
                    "no-answer",
                    "its agent does not publish its TFLite runtime; look at the log of "
                    "`device-agent` on the board",
                )
            time.sleep(0.1)

    def measure(
        self,
        boards: Sequence[Board],
        model: TfliteModel,
        *,
        force: bool = False,
        on_progress: Progress | None = None,
        on_profile: Callable[[BoardProfile], None],
    ) -> None:
        """Have boards time messages, and then the slices of a model.

        Args:
            boards: Boards from :meth:`boards`.
            model: The model.
            force: Whether boards that serve a deployment also measure.
            on_progress: Called with (board, slices timed, number of slices), from several threads.
            on_profile: Called with each board's complete profile.

        Raises:
            ProfileRefusedError: A board refused or did not answer. The other boards were still
                measured.
        """
        slices = _Slices(model)
        failures: list[EdgePartitionError] = []
        all_messages: dict[str, MessageTimes] = {}
        for board in boards:
            try:
                all_messages[board.name] = self.time_messages(board.name, force=force)
            except EdgePartitionError as error:
                failures.append(error)
        ranges = choose_slices(model.graph)

        def measure_board(board: Board) -> BoardProfile:
            timed = self._time_slices(board, slices, ranges, force, on_progress)
            covered = {index for item in timed.slices for index in range(item.start, item.stop)}
            if timed.no_memory is not None and len(covered) < len(model.graph.operators):
                raise timed.no_memory
            messages = all_messages[board.name]
            return BoardProfile(
                model_sha256=model.sha256,
                model_name=slices.graph.name,
                board=board.name,
                runtime=board.runtime,
                threads=board.threads,
                measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
                slices=timed.slices,
                messages=messages.timed,
                cores=messages.cores,
                temperature_c=_range(timed.temperatures_c),
                clock_mhz=_range(timed.clocks_mhz),
                unsettled=timed.unsettled,
                ram_mib=board.ram_mib,
            )

        answering = [board for board in boards if board.name in all_messages]
        failures += self._on_each_machine(answering, measure_board, on_profile)
        if failures:
            raise failures[0]

    def measure_stages(
        self,
        stages: Mapping[Board, Sequence[tuple[int, int]]],
        profiles: Mapping[str, BoardProfile],
        model: TfliteModel,
        *,
        force: bool = False,
        on_progress: Progress | None = None,
        on_profile: Callable[[BoardProfile], None],
    ) -> None:
        """Have boards time stages, and extend each board's profile by the new times.

        Args:
            stages: Stages to time, by board. A stage is the operator range ``[start, stop)``.
            profiles: Current profile of each board, by name.
            model: The model.
            force: Whether boards that serve a deployment also measure.
            on_progress: Called with (board, stages timed, number of stages), from several threads.
            on_profile: Called with each board's extended profile. A stage that exceeds the board's
                memory adds nothing.

        Raises:
            ProfileRefusedError: A board refused or did not answer. The other boards still timed
                their stages.
        """
        slices = _Slices(model)

        def measure_board(board: Board) -> BoardProfile:
            before = profiles[board.name]
            timed = self._time_slices(board, slices, stages[board], force, on_progress)
            return replace(
                before,
                slices=before.slices + timed.slices,
                temperature_c=_range([*(before.temperature_c or ()), *timed.temperatures_c]),
                clock_mhz=_range([*(before.clock_mhz or ()), *timed.clocks_mhz]),
                unsettled=before.unsettled + timed.unsettled,
            )

        failures = self._on_each_machine(list(stages), measure_board, on_profile)
        if failures:
            raise failures[0]

    def time_messages(self, board: str, *, force: bool = False) -> MessageTimes:
        """Have a board time messages, without timing a model.

        Args:
            board: Name of the board.
            force: Whether a board that serves a deployment also measures.

        Raises:
            ProfileRefusedError: The board refused or did not answer.
        """
        limit = self._connection.maximum_packet_size - CHUNK_OVERHEAD_BYTES
        limit = min(MAX_TIMED_MESSAGE_BYTES, limit)
        timed, cores = [], []
        for size_bytes in sorted({min(size_bytes, limit) for size_bytes in _MESSAGE_BYTES}):
            command = {"command": "time-messages", "size_bytes": size_bytes, "force": force}
            with _as_refusals(board):
                answer = self._ask(board, command, _MESSAGE_TIMEOUT_S)
                times_ms = [_number(answer, field.name) for field in fields(TimedMessage)[1:]]
                cores.append(_number(answer, "cores"))
            timed.append(TimedMessage(size_bytes, *times_ms))
        return MessageTimes(tuple(timed), statistics.median(cores))

    def _on_each_machine(
        self,
        boards: Sequence[Board],
        measure_board: Callable[[Board], BoardProfile],
        on_profile: Callable[[BoardProfile], None],
    ) -> list[EdgePartitionError]:
        """Call ``measure_board`` for all boards; return the errors.

        The calls for different machines run at the same time. The calls for the boards of one
        machine run one after another.
        """
        failures: list[EdgePartitionError] = []
        lock = threading.Lock()
        machines: dict[str, list[Board]] = {}
        for board in boards:
            machines.setdefault(board.machine, []).append(board)

        def measure_machine(sharing: list[Board]) -> None:
            for board in sharing:
                try:
                    profile = measure_board(board)
                    with lock:
                        on_profile(profile)
                except EdgePartitionError as error:
                    failures.append(error)

        with ThreadPoolExecutor(max_workers=min(16, max(1, len(machines)))) as pool:
            try:
                list(pool.map(measure_machine, machines.values()))
            except BaseException:
                # The end of the pool's context waits for its threads, which stop on this event.
                self._interrupted.set()
                raise
        return failures

    def _time_slices(
        self,
        board: Board,
        slices: _Slices,
        ranges: Sequence[tuple[int, int]],
        force: bool,
        on_progress: Progress | None,
    ) -> _Timed:
        timed: list[TimedSlice] = []
        temperatures: list[float] = []
        clocks: list[float] = []
        unsettled = 0
        no_memory: ProfileRefusedError | None = None
        for number, (start, stop) in enumerate(ranges):
            if self._interrupted.is_set():
                raise ProfileRefusedError(board.name, "interrupted", "the command was interrupted")
            try:
                with _as_refusals(board.name):
                    answer = self._time_slice(board.name, slices, start, stop, force)
                    timed.append(TimedSlice(start, stop, _number(answer, "invoke_ms")))
                    unsettled += answer["settled"] is not True
                    temperatures += _numbers(answer.get("temperature_c"))
                    clocks += _numbers(answer.get("clock_mhz"))
            except ProfileRefusedError as error:
                if error.code != ErrorCode.NO_MEMORY:
                    raise
                # A slice that exceeds the board's memory cannot be a stage of the board.
                no_memory = error
            if on_progress is not None:
                on_progress(board.name, number + 1, len(ranges))
        return _Timed(tuple(timed), temperatures, clocks, unsettled, no_memory)

    def _time_slice(
        self, board: str, slices: _Slices, start: int, stop: int, force: bool
    ) -> dict[str, Any]:
        data = slices.data(start, stop)
        sha256 = hashlib.sha256(data).hexdigest()
        command = {
            "command": "profile",
            "manifest": slices.manifest(board, start, stop, sha256, len(data)),
            "displaced_bytes": displaced_bytes(slices.graph, start, stop),
            "max_s": _SLICE_S,
            "force": force,
        }
        answer = self._ask(board, command, _SLICE_TIMEOUT_S)
        if "have_bytes" in answer:
            for _ in self._store(board, sha256, data, int(answer["have_bytes"])):
                pass
            answer = self._ask(board, command, _SLICE_TIMEOUT_S)
        return answer


class _Slices:
    """The files and manifests of a model's slices (ranges of operators), created on demand."""

    def __init__(self, model: TfliteModel) -> None:
        self.graph: Graph = model.graph
        self._model = model

    def data(self, start: int, stop: int) -> bytes:
        return slice_model(self._model, start, stop)

    def manifest(
        self, board: str, start: int, stop: int, sha256: str, size_bytes: int
    ) -> dict[str, Any]:
        inputs, outputs = self._specs(start), self._specs(stop)
        needed_bytes = stage_cost(self.graph, Device(board), start, stop).ram_bytes
        document: dict[str, Any] = json.loads(
            Manifest(
                deployment="profile",
                generation=sha256[:12],
                model=ModelInfo(self.graph.name, self._model.sha256, "as-given"),
                inputs=inputs,
                outputs=outputs,
                stages=(
                    Stage(
                        index=0,
                        devices=(board,),
                        file="stages/0.tflite",
                        sha256=sha256,
                        size_bytes=size_bytes,
                        inputs=inputs,
                        outputs=outputs,
                        predicted=Predicted(0.0, needed_bytes - AGENT_RAM_BYTES),
                        state=self.graph.keeps_state(start, stop),
                    ),
                ),
            ).to_json()
        )
        return document

    def _specs(self, position: int) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(tensor.name, tensor.dtype, tensor.shape)
            for tensor in self.graph.boundary(position)
        )


def _read_board(name: str, payload: bytes) -> Board | None:
    """Return the board in an agent's profile message; ``None`` if the message lacks a field."""
    try:
        profile = decode_json(payload)
    except CommandError:
        return None
    runtime, threads = profile.get("runtime"), profile.get("threads")
    if not isinstance(runtime, str) or not isinstance(threads, int):
        return None
    return Board(
        name, runtime, threads, str(profile.get("boot") or name), read_ram_limit_mib(profile)
    )


@contextmanager
def _as_refusals(board: str) -> Iterator[None]:
    """Raise each error of a command to the board as a :class:`ProfileRefusedError`."""
    try:
        yield
    except CommandError as error:
        raise ProfileRefusedError(board, error.code, error.reason) from None
    except NoAnswerError as error:
        raise ProfileRefusedError(board, "no-answer", str(error)) from None
    except (FieldError, KeyError, TypeError, ValueError):
        raise ProfileRefusedError(
            board,
            "bad-answer",
            "its agent's answer can't be read; install this version of edge-partition on the board",
        ) from None


def _number(answer: Mapping[str, Any], key: str) -> float:
    return Field(answer, root="answer")[key].number(above=True)


def _numbers(value: Any) -> list[float]:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return [float(value)] if is_number and math.isfinite(value) else []


def _range(values: list[float]) -> tuple[float, float] | None:
    return (min(values), max(values)) if values else None
