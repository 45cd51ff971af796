"""Predict the cost of a stage on a board: time, memory, storage, bytes sent and energy.

Internally, times are whole nanoseconds and energies are whole microjoules. So the costs of plans
are added and compared without rounding errors.

**Work.** :mod:`edge_partition.planning.operator_work` computes the work of each operator in work
units. A unit is the time of one multiply-accumulate on the board. Float operators and quantized
operators have different units. A board runs :attr:`Device.speed_gmac_s` times 10^9 float units per
second. It runs :attr:`Device.int8_speedup` times as many quantized units per second. If a board's
times were measured, the measured times (:mod:`edge_partition.planning.stage_times`) replace this
estimate.

**Messages.** The agent needs processor time for each message that it receives or sends. The
estimate is 14 million float units for each message and 29 float units for each byte. On a Raspberry
Pi 4, the estimate is 1.3 ms for each message and 2.6 ms for each MB. It was derived from a
measurement: on an x86-64 processor, an agent sent messages of 1 kB to 1 MB to itself. The agent
needed 0.24 ms for each message and 0.5 ms for each MB. The x86-64 processor is assumed to be 5.3
times as fast as a Pi 4. A measured profile replaces the estimate.

One thread of the agent reads a request, runs the inference and writes the result. So at full load,
a request takes the sum of these three times. During an inference of more than 10 ms, a second
thread already reads the next request. If the second thread has a processor of its own, the sum is
too high by the time for reading.

**Energy.** The energy of a request on a board is a power times a time. The power is the board's
power during an inference minus its idle power (:attr:`Device.active_watts`,
:attr:`Device.idle_watts`). The time is :attr:`StageCost.busy_ms`, for which the request occupies
the board's processors. The idle power does not count, because a board uses it in every plan, with
or without requests. The energy of the link is part of the idle power.

**Links and memory.** See :mod:`edge_partition.planning.link_times` and
:mod:`edge_partition.planning.stage_memory`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_partition.planning.link_times import delay_ns, transfer_ns
from edge_partition.planning.operator_work import INT8_SPEEDUP, operator_work
from edge_partition.planning.stage_memory import stage_ram_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_partition.planning.fleet import Device, Source
    from edge_partition.tflite.graph import Graph, Wire

IntArray: TypeAlias = NDArray[np.int64]

MIB = 1 << 20

_MACS_PER_MESSAGE = 14_000_000
_MACS_PER_MESSAGE_BYTE = 29
#: Bytes in a file for each operator with the names and shapes of its tensors. MobileNetV3Large's
#: file has 320 bytes for each operator besides the weights.
_FILE_BYTES_PER_OPERATOR = 512
_NS_PER_MS = 1_000_000
_UJ_PER_J = 1_000_000
_NS_PER_US = 1_000


@dataclass(frozen=True)
class StageCost:
    """Cost of a stage on a board.

    Attributes:
        invoke_ms: Time of one inference, in milliseconds.
        handling_ms: Processor time to receive the inputs and send the outputs, in
            milliseconds.
        busy_ms: Time for which a request occupies the board's processors at full load, in
            milliseconds.
        receive_ms: Time that the inputs take on the board's link, in milliseconds.
        send_ms: Time that the outputs take on the board's link, in milliseconds.
        link_delay_ms: Fixed delay of a message on the link, in milliseconds. Both ``receive_ms``
            and ``send_ms`` include the delay. During the delay, the link can carry other messages.
        ram_bytes: Resident memory of an agent that serves only this stage.
        storage_bytes: Size of the stage's file.
        in_bytes: Size of one request's inputs.
        out_bytes: Size of one request's outputs.
        macs: Multiply-accumulates of one inference.
        energy_j: Energy of one request in joules, without the energy of the board's idle power.
            ``None`` if the board's power is not known.
        invoke_source: Whether ``invoke_ms`` is measured on this board or estimated.
        handling_source: Whether ``handling_ms`` is measured on this board or estimated.
        link_source: Whether ``receive_ms`` and ``send_ms`` are measured or estimated.
    """

    invoke_ms: float
    handling_ms: float
    busy_ms: float
    receive_ms: float
    send_ms: float
    link_delay_ms: float
    ram_bytes: int
    storage_bytes: int
    in_bytes: int
    out_bytes: int
    macs: int
    energy_j: float | None = None
    invoke_source: Source = "estimated"
    handling_source: Source = "estimated"
    link_source: Source = "estimated"

    @property
    def link_ms(self) -> float:
        """Time that one request's inputs and outputs take on the board's link, in milliseconds."""
        return _to_ms(_to_ns(self.receive_ms) + _to_ns(self.send_ms))

    @property
    def transfer_ms(self) -> float:
        """Time for which one request's inputs and outputs occupy the link, in milliseconds.

        It is ``link_ms`` minus the fixed delays of two messages. A fixed delay does not occupy the
        link.
        """
        return _to_ms(_to_ns(self.link_ms) - 2 * _to_ns(self.link_delay_ms))

    @property
    def latency_ms(self) -> float:
        """Time of one request from the broker to the board and back, in milliseconds."""
        return _to_ms(sum(map(_to_ns, (self.invoke_ms, self.handling_ms, self.link_ms))))

    @property
    def bottleneck_ms(self) -> float:
        """Time between the board's results at full load (the period), in milliseconds.

        While the link carries the tensors of one request, the processors work on another request.
        So the period is the longer of two times: the link's time and the processors' time.
        """
        return max(self.busy_ms, self.transfer_ms)


def stage_cost(
    graph: Graph,
    device: Device,
    start: int,
    stop: int,
    wires: tuple[Wire, Wire] = ("float32", "float32"),
) -> StageCost:
    """Return the cost of operators ``[start, stop)`` on ``device``.

    Args:
        graph: The model.
        device: The board.
        start: Index of the first operator.
        stop: Index of the last operator, plus 1.
        wires: The dtype in which float32 activations are received, and the dtype in which they are
            sent.

    Raises:
        IndexError: The range is outside the graph.
    """
    in_bytes = graph.boundary_bytes(start, wires[0])
    out_bytes = graph.boundary_bytes(stop, wires[1])
    weight_bytes = graph.weight_bytes(start, stop)
    macs = graph.macs(start, stop)
    stage_ms = invoke_ms(graph, device, start, stop, wires)
    invoke_ns = np.int64(_to_ns(stage_ms))
    handling_ns = _handling_ns(np.array([in_bytes, out_bytes], np.int64), device).sum()
    busy_ns = _busy_ns(invoke_ns, handling_ns)
    return StageCost(
        invoke_ms=stage_ms,
        handling_ms=_to_ms(int(handling_ns)),
        busy_ms=_to_ms(int(busy_ns)),
        receive_ms=_to_ms(int(transfer_ns(np.int64(in_bytes), device)) + delay_ns(device)),
        send_ms=_to_ms(int(transfer_ns(np.int64(out_bytes), device)) + delay_ns(device)),
        link_delay_ms=_to_ms(delay_ns(device)),
        ram_bytes=int(
            stage_ram_bytes(
                start=start,
                weight_bytes=weight_bytes,
                activation_bytes=graph.peak_activation_bytes(start, stop),
                in_bytes=in_bytes,
                out_bytes=out_bytes,
            )
        ),
        storage_bytes=weight_bytes + (stop - start) * _FILE_BYTES_PER_OPERATOR,
        in_bytes=in_bytes,
        out_bytes=out_bytes,
        macs=macs,
        energy_j=None
        if device.watts_above_idle is None
        else int(_energy_uj(busy_ns, device)) / _UJ_PER_J,
        invoke_source="estimated" if device.stage_times is None else "measured",
        handling_source="estimated" if device.handling is None else "measured",
        link_source=device.link_source,
    )


def invoke_ms(
    graph: Graph,
    device: Device,
    start: int,
    stop: int,
    wires: tuple[Wire, Wire] = ("float32", "float32"),
) -> float:
    """Return the time of one inference of a stage, in milliseconds.

    The arguments are those of :func:`stage_cost`.
    """
    if device.stage_times is None:
        float_macs, int8_macs = (sum(work) for work in operator_work(graph, start, stop))
        return _to_ms(int(_invoke_ns(np.int64(float_macs), np.int64(int8_macs), device)))
    crossing_bytes = graph.boundary_bytes(start, wires[0]) + graph.boundary_bytes(stop, wires[1])
    return _to_ms(device.stage_times.invoke_ns(start, stop, crossing_bytes))


def operator_work_macs(graph: Graph) -> list[int]:
    """Return the work of each operator, in work units of float operators.

    To convert the work of a quantized operator from its own work units, the function divides the
    work by :data:`.operator_work.INT8_SPEEDUP`.
    """
    return [
        float_macs + round(int8_macs / INT8_SPEEDUP)
        for float_macs, int8_macs in zip(*_all_work(graph), strict=True)
    ]


def total_work_macs(graph: Graph) -> int:
    """Return the work of all operators of the model: the sum of :func:`operator_work_macs`.

    If a board runs the whole model in ``t`` milliseconds, its :attr:`Device.speed_gmac_s` is
    ``total_work_macs(graph) / t / 1e6``.
    """
    return sum(operator_work_macs(graph))


def model_speed_gmac_s(graph: Graph, device: Device) -> float:
    """Return a board's average speed for this model, in 10^9 work units per second.

    The speed is :func:`total_work_macs` divided by the estimated time of one inference. For a float
    model, the speed is :attr:`Device.speed_gmac_s`. For a model with quantized operators, the speed
    also depends on :attr:`Device.int8_speedup`.
    """
    float_macs, int8_macs = (sum(work) for work in _all_work(graph))
    usual_macs, own_macs = (
        float_macs + int8_macs / speedup for speedup in (INT8_SPEEDUP, device.int8_speedup)
    )
    return device.speed_gmac_s * (usual_macs / own_macs)


@dataclass(frozen=True)
class StageTable:
    """The work, memory and message sizes of all stages between ``m`` starts and ``n`` stops.

    A stage is the operators ``[start, stop)``. If the start is not before the stop, the values for
    this pair have no meaning. The table does not depend on a board. All ``(m, n)`` arrays have one
    row for each start and one column for each stop. The methods return such arrays too.

    Attributes:
        starts: ``(m,)``, indexes of operators where a stage may start, ascending.
        stops: ``(n,)``, indexes of operators before which a stage may stop, ascending. The index
            after the last operator is allowed too.
        float_macs: ``(m, n)``, work of each stage's float operators, in work units of float
            operators.
        int8_macs: ``(m, n)``, work of each stage's quantized operators, in work units of quantized
            operators.
        ram_bytes: ``(m, n)``, :attr:`StageCost.ram_bytes` of each stage.
        storage_bytes: ``(m, n)``, :attr:`StageCost.storage_bytes` of each stage.
        in_bytes: ``(m,)``, size of a stage's inputs for each start.
        out_bytes: ``(n,)``, size of a stage's outputs for each stop.
    """

    starts: IntArray
    stops: IntArray
    float_macs: IntArray
    int8_macs: IntArray
    ram_bytes: IntArray
    storage_bytes: IntArray
    in_bytes: IntArray
    out_bytes: IntArray

    @classmethod
    def of(cls, graph: Graph, positions: Sequence[int], wire: Wire = "float32") -> StageTable:
        """Return the table of all stages of ``graph`` that start and stop at ``positions``.

        Args:
            graph: The model.
            positions: Positions where a stage may start or stop, ascending. Position ``i`` is
                before operator ``i``.
            wire: The dtype in which float32 activations are sent over every boundary.
        """
        at = np.array(positions, np.int64)
        between = np.ix_(at, at)
        float_before, int8_before = (np.cumsum([0, *work])[at] for work in _all_work(graph))
        boundary_bytes = np.array([graph.boundary_bytes(position, wire) for position in positions])
        weight_bytes = graph.weight_table()[between]
        return cls(
            starts=at,
            stops=at,
            float_macs=float_before - float_before[:, None],
            int8_macs=int8_before - int8_before[:, None],
            ram_bytes=stage_ram_bytes(
                start=at[:, None],
                weight_bytes=weight_bytes,
                activation_bytes=graph.peak_activation_table()[between],
                in_bytes=boundary_bytes[:, None],
                out_bytes=boundary_bytes,
            ),
            storage_bytes=weight_bytes + (at - at[:, None]) * _FILE_BYTES_PER_OPERATOR,
            in_bytes=boundary_bytes,
            out_bytes=boundary_bytes,
        )

    def part(self, starts: slice, stops: slice) -> StageTable:
        """Return the part of the table with the given rows (starts) and columns (stops)."""
        return StageTable(
            starts=self.starts[starts],
            stops=self.stops[stops],
            float_macs=self.float_macs[starts, stops],
            int8_macs=self.int8_macs[starts, stops],
            ram_bytes=self.ram_bytes[starts, stops],
            storage_bytes=self.storage_bytes[starts, stops],
            in_bytes=self.in_bytes[starts],
            out_bytes=self.out_bytes[stops],
        )

    @property
    def work_macs(self) -> IntArray:
        """Work of all operators of each stage, by start and stop.

        The unit is the work unit of float operators, as in :func:`operator_work_macs`.
        """
        return self.float_macs + np.rint(self.int8_macs / INT8_SPEEDUP).astype(np.int64)

    def invoke_ns(self, device: Device) -> IntArray:
        """Return the time of one inference of each stage in nanoseconds, by start and stop."""
        if device.stage_times is not None:
            crossing_bytes = self.in_bytes[:, None] + self.out_bytes
            return device.stage_times.table_ns(self.starts, self.stops, crossing_bytes)
        result: IntArray = _invoke_ns(self.float_macs, self.int8_macs, device)
        return result

    def handling_ns(self, device: Device) -> IntArray:
        """Return the processor time for one request's messages in nanoseconds, by start and stop.

        The messages are the stage's inputs, which are received, and its outputs, which are sent.
        """
        receive_ns, send_ns = (
            _handling_ns(size, device) for size in (self.in_bytes, self.out_bytes)
        )
        result: IntArray = receive_ns[:, None] + send_ns
        return result

    def busy_ns(self, device: Device) -> IntArray:
        """Return the time for which one request occupies the processors of each possible stage.

        The time is in nanoseconds.
        """
        result: IntArray = _busy_ns(self.invoke_ns(device), self.handling_ns(device))
        return result

    def energy_uj(self, device: Device) -> IntArray:
        """Return the energy of one request in each stage in microjoules, by start and stop.

        The energy does not contain the board's idle power.

        Raises:
            ValueError: The board's power is not known.
        """
        result: IntArray = _energy_uj(self.busy_ns(device), device)
        return result

    def bottleneck_and_latency_ns(self, device: Device) -> tuple[IntArray, IntArray]:
        """Return two arrays in nanoseconds, by start and stop: each stage's period and latency."""
        invoke_ns, handling_ns = self.invoke_ns(device), self.handling_ns(device)
        transfer_ns = self.transfer_ns(device)
        busy_ns: IntArray = _busy_ns(invoke_ns, handling_ns)
        latency_ns = invoke_ns + handling_ns + transfer_ns + 2 * delay_ns(device)
        return np.maximum(busy_ns, transfer_ns), latency_ns

    def transfer_ns(self, device: Device) -> IntArray:
        """Return the time for which one request occupies the link, by start and stop.

        The time is in nanoseconds, for the stage's inputs and outputs together.
        """
        receive_ns, send_ns = (
            transfer_ns(size, device) for size in (self.in_bytes, self.out_bytes)
        )
        result: IntArray = receive_ns[:, None] + send_ns
        return result


def _all_work(graph: Graph) -> tuple[list[int], list[int]]:
    return operator_work(graph, 0, len(graph.operators))


def _invoke_ns(float_macs: Any, int8_macs: Any, device: Device) -> Any:
    # A speed of 10^9 units per second is 1 unit per nanosecond.
    work_macs = float_macs + int8_macs / device.int8_speedup
    return np.rint(work_macs / device.speed_gmac_s).astype(np.int64)


def _energy_uj(busy_ns: Any, device: Device) -> Any:
    """Return the energy of a board that is busy for ``busy_ns``, without idle power, in µJ."""
    if device.watts_above_idle is None:
        raise ValueError(
            f"The power of {device.name} is not known; expected a board with active_watts and "
            "idle_watts."
        )
    return np.rint(busy_ns * device.watts_above_idle / _NS_PER_US).astype(np.int64)


def _handling_ns(size_bytes: Any, device: Device) -> Any:
    """Return the processor time to receive or send a message, in nanoseconds.

    ``size_bytes`` is an integer or an array of sizes. The result has the same shape.
    """
    if device.handling is None:
        return _invoke_ns(_MACS_PER_MESSAGE + _MACS_PER_MESSAGE_BYTE * size_bytes, 0, device)
    # 1 ms per MB is 1 ns per byte.
    handling_ns = device.handling.fixed_ms * _NS_PER_MS + device.handling.ms_per_mb * size_bytes
    return np.rint(handling_ns).astype(np.int64)


def _busy_ns(invoke_ns: Any, handling_ns: Any) -> Any:
    """Return the time for which a request occupies the processors at full load.

    The time is a sum, because one thread runs the inference and handles the messages.
    """
    return invoke_ns + handling_ns


def _to_ms(nanoseconds: int) -> float:
    return nanoseconds / _NS_PER_MS


def _to_ns(milliseconds: float) -> int:
    return round(milliseconds * _NS_PER_MS)
