"""Graph x Device -> milliseconds and bytes of a stage.

Times are integers of nanoseconds internally, and energies integers of microjoules, so that sums,
maxima and ties are exact when plans are compared.

**Work.** :mod:`edge_partition.planning.operator_work` counts the work of each operator. A board
runs float operators at :attr:`Device.speed_gmac_s`, and quantized operators
:attr:`Device.int8_speedup` times as fast. For a measured board, the measured times
(:mod:`edge_partition.planning.stage_times`) replace this estimate.

**Messages.** The agent takes processor time for each message, in and out. An agent that sent
messages of 1 kB to 1 MB to itself took 0.24 ms for each message and 0.5 ms for each MB, on an
x86-64 processor that is taken to be 5.3 times as fast as a Pi 4's. At the four-core speeds of the
Raspberry Pi presets, 14 million units for each message and 29 for each byte give 1.3 ms for each
message and 2.6 ms for each MB on a Pi 4. A measured profile replaces this estimate.

One thread of the agent reads a request, infers and writes the result, so at full load a request
takes the sum of these times. During an inference of more than 10 ms another thread reads the next
request; where that thread has a processor of its own, the sum is too high by the time of reading.

**Energy.** The energy of a request on a board is the board's power under load above its idle power
(:attr:`Device.active_watts`, :attr:`Device.idle_watts`), for the time that the request occupies the
processors (:attr:`StageCost.busy_ms`). The idle power does not count: a board that waits takes it
with or without the request, in every plan. The energy of a link is part of the idle power.

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
#: Bytes of an operator, its tensors' names and shapes in a file. MobileNetV3Large's file is larger
#: than the weights by 320 bytes for each operator.
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
        busy_ms: Time that a request occupies the board's processors at full load, in milliseconds.
        receive_ms: Time of the inputs on the board's link, in milliseconds.
        send_ms: Time of the outputs on the board's link, in milliseconds.
        link_delay_ms: Part of ``receive_ms`` and of ``send_ms`` in which the link is free for other
            messages, in milliseconds.
        ram_bytes: Resident memory of an agent that serves only this stage.
        storage_bytes: Size of the stage's file.
        in_bytes: Size of one request's inputs.
        out_bytes: Size of one request's outputs.
        macs: Multiply-accumulates of one inference.
        energy_j: Energy of one request above the board's idle power, in joules; ``None`` if the
            board's power is not known.
        handling_source: Whether ``handling_ms`` is measured on this board or estimated.
        invoke_source: Whether ``invoke_ms`` is measured on this board or estimated.
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
        """Time of one request's tensors on the board's link, in and out, in milliseconds."""
        return _to_ms(_to_ns(self.receive_ms) + _to_ns(self.send_ms))

    @property
    def transfer_ms(self) -> float:
        """Time that one request's tensors occupy the link, in milliseconds."""
        return _to_ms(_to_ns(self.link_ms) - 2 * _to_ns(self.link_delay_ms))

    @property
    def latency_ms(self) -> float:
        """Time of one request from the broker through the board to the broker, in milliseconds."""
        return _to_ms(sum(map(_to_ns, (self.invoke_ms, self.handling_ms, self.link_ms))))

    @property
    def bottleneck_ms(self) -> float:
        """Period at full load, in milliseconds.

        The link carries one request's tensors while the processors work on another request, so the
        longer of the link's time and the processors' time is the period.
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
        start: First operator.
        stop: Position after the last operator.
        wires: The types of float32 activations in the inputs and in the outputs.

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
    """Return the time of one inference of a stage, in milliseconds; see :func:`stage_cost`."""
    if device.stage_times is None:
        float_macs, int8_macs = (sum(work) for work in operator_work(graph, start, stop))
        return _to_ms(int(_invoke_ns(np.int64(float_macs), np.int64(int8_macs), device)))
    crossing_bytes = graph.boundary_bytes(start, wires[0]) + graph.boundary_bytes(stop, wires[1])
    return _to_ms(device.stage_times.invoke_ns(start, stop, crossing_bytes))


def operator_work_macs(graph: Graph) -> list[int]:
    """Return each operator's work in units of float operators, on a board of usual int8 speed."""
    return [
        float_macs + round(int8_macs / INT8_SPEEDUP)
        for float_macs, int8_macs in zip(*_all_work(graph), strict=True)
    ]


def total_work_macs(graph: Graph) -> int:
    """Return the model's work, the sum of :func:`operator_work_macs`.

    A board that runs the whole model in ``t`` milliseconds has a speed of
    ``total_work_macs(graph) / t / 1e6`` for :attr:`Device.speed_gmac_s`.
    """
    return sum(operator_work_macs(graph))


def model_speed_gmac_s(graph: Graph, device: Device) -> float:
    """Return the speed at which ``device`` does :func:`total_work_macs`, in 10^9 units per second.

    The speed is :attr:`Device.speed_gmac_s` for a float model. For quantized operators it depends
    on :attr:`Device.int8_speedup`.
    """
    float_macs, int8_macs = (sum(work) for work in _all_work(graph))
    usual_macs, own_macs = (
        float_macs + int8_macs / speedup for speedup in (INT8_SPEEDUP, device.int8_speedup)
    )
    return device.speed_gmac_s * (usual_macs / own_macs)


@dataclass(frozen=True)
class StageTable:
    """Work and bytes of all stages between given positions, for any board.

    Attributes:
        starts: ``(m,)``, positions where a stage may start, ascending.
        stops: ``(n,)``, positions where a stage may stop, ascending.
        float_macs: ``(m, n)``, work of each stage's float operators, in their units; 0 or less
            where ``start >= stop``.
        int8_macs: ``(m, n)``, the same for quantized operators.
        ram_bytes: ``(m, n)``, as :attr:`StageCost.ram_bytes`.
        storage_bytes: ``(m, n)``, as :attr:`StageCost.storage_bytes`.
        in_bytes: ``(m,)``, bytes that cross each start.
        out_bytes: ``(n,)``, bytes that cross each stop.
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
        """Return the table of all stages of ``graph`` between ``positions``.

        Args:
            graph: The model.
            positions: Positions where a stage may start or stop, ascending.
            wire: The type of float32 activations on every boundary.
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
        """Return the table of the given rows and columns."""
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
        """Work of each stage in units of float operators, ``(m, n)``."""
        return self.float_macs + np.rint(self.int8_macs / INT8_SPEEDUP).astype(np.int64)

    def invoke_ns(self, device: Device) -> IntArray:
        """Return the time of one inference of each stage on ``device``, ``(m, n)`` nanoseconds."""
        if device.stage_times is not None:
            crossing_bytes = self.in_bytes[:, None] + self.out_bytes
            return device.stage_times.table_ns(self.starts, self.stops, crossing_bytes)
        result: IntArray = _invoke_ns(self.float_macs, self.int8_macs, device)
        return result

    def handling_ns(self, device: Device) -> IntArray:
        """Return the time of a request's messages, ``(m, n)`` nanoseconds."""
        receive_ns, send_ns = (
            _handling_ns(size, device) for size in (self.in_bytes, self.out_bytes)
        )
        result: IntArray = receive_ns[:, None] + send_ns
        return result

    def busy_ns(self, device: Device) -> IntArray:
        """Return the processors' busy time of a request at full load, ``(m, n)`` nanoseconds."""
        result: IntArray = _busy_ns(self.invoke_ns(device), self.handling_ns(device))
        return result

    def energy_uj(self, device: Device) -> IntArray:
        """Return each stage's energy of a request above idle power, ``(m, n)`` microjoules.

        Raises:
            ValueError: The board's power is not known.
        """
        result: IntArray = _energy_uj(self.busy_ns(device), device)
        return result

    def bottleneck_and_latency_ns(self, device: Device) -> tuple[IntArray, IntArray]:
        """Return each stage's period and latency on ``device``, ``(m, n)`` nanoseconds each."""
        invoke_ns, handling_ns = self.invoke_ns(device), self.handling_ns(device)
        transfer_ns = self.transfer_ns(device)
        busy_ns: IntArray = _busy_ns(invoke_ns, handling_ns)
        latency_ns = invoke_ns + handling_ns + transfer_ns + 2 * delay_ns(device)
        return np.maximum(busy_ns, transfer_ns), latency_ns

    def transfer_ns(self, device: Device) -> IntArray:
        """Return the link's busy time of a request, in and out, ``(m, n)`` nanoseconds."""
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
    """Return the energy above idle power during ``busy_ns``, in microjoules."""
    if device.watts_above_idle is None:
        raise ValueError(f"The power of {device.name} is not known.")
    return np.rint(busy_ns * device.watts_above_idle / _NS_PER_US).astype(np.int64)


def _handling_ns(size_bytes: Any, device: Device) -> Any:
    """Return the processor time of one message of each size, in nanoseconds."""
    if device.handling is None:
        return _invoke_ns(_MACS_PER_MESSAGE + _MACS_PER_MESSAGE_BYTE * size_bytes, 0, device)
    # Milliseconds per megabyte are nanoseconds per byte.
    handling_ns = device.handling.fixed_ms * _NS_PER_MS + device.handling.ms_per_mb * size_bytes
    return np.rint(handling_ns).astype(np.int64)


def _busy_ns(invoke_ns: Any, handling_ns: Any) -> Any:
    """Return the busy time at full load: one thread reads, infers and writes."""
    return invoke_ns + handling_ns


def _to_ms(nanoseconds: int) -> float:
    return nanoseconds / _NS_PER_MS


def _to_ns(milliseconds: float) -> int:
    return round(milliseconds * _NS_PER_MS)
