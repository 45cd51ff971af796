"""Graph x Device -> milliseconds and bytes of a stage.

Times are whole nanoseconds inside, so that sums, maxima and ties are exact wherever a plan is
compared with another.

**Work.** A stage's work is counted in multiply-accumulates: its own, 3 for each byte that an
operator writes or of a weight that it reads, and 100,000 for each operator. With one speed a
board, those weights predict XNNPACK's published times of MobileNet v1, v2, v3 Large and v3 Small
on the Raspberry Pi 3B+ and 4 (github.com/google/XNNPACK, README) within 5 %; the two speeds were
fitted to the same figures. The speed of quantized operators is not told apart.

Where a board was measured (:mod:`edge_partition.stage_times`), its times take the place of all
that.

**Memory.** An agent with its interpreter, numpy and MQTT client at work took 54 MiB (measured on
x86-64: the resident memory of three agents with stages loaded, less what follows). On top come
the mapped file, XNNPACK's own packed copy of the weights, the activations' arena, and the
messages of a window of requests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_partition.fleet import Device, Source
    from edge_partition.graph import Graph

IntArray: TypeAlias = NDArray[np.int64]

MIB = 1 << 20

#: Resident memory of an agent at work, less what its stages add.
AGENT_RAM_BYTES = 54 * MIB
#: Requests whose inputs and outputs an agent may hold at once: the client's usual window.
MESSAGES_IN_FLIGHT = 4
_MACS_PER_BYTE = 3
_MACS_PER_OPERATOR = 100_000
#: What an operator, its tensors' names and shapes take in a file: MobileNetV3Large's file is 320
#: bytes an operator larger than its weights.
_FILE_BYTES_PER_OPERATOR = 512
_NS_PER_MS = 1_000_000


@dataclass(frozen=True)
class StageCost:
    """What a stage costs a board.

    Attributes:
        invoke_ms: Milliseconds of one inference.
        receive_ms: Milliseconds of the inputs over the board's link.
        send_ms: Milliseconds of the outputs over the board's link.
        ram_bytes: Resident bytes of an agent that serves this stage alone.
        storage_bytes: Bytes of the stage's file.
        in_bytes: Bytes of one request's inputs.
        out_bytes: Bytes of one request's outputs.
        macs: Multiply-accumulates of one inference.
        invoke_source: Whether ``invoke_ms`` rests on measurements of this board.
        link_source: Whether ``receive_ms`` and ``send_ms`` do.
    """

    invoke_ms: float
    receive_ms: float
    send_ms: float
    ram_bytes: int
    storage_bytes: int
    in_bytes: int
    out_bytes: int
    macs: int
    invoke_source: Source = "estimated"
    link_source: Source = "estimated"

    @property
    def link_ms(self) -> float:
        """Milliseconds that one request occupies the board's link, in and out."""
        return _to_ms(_to_ns(self.receive_ms) + _to_ns(self.send_ms))

    @property
    def latency_ms(self) -> float:
        """Milliseconds that one request takes from the broker, through the board, and back."""
        return _to_ms(_to_ns(self.invoke_ms) + _to_ns(self.link_ms))

    @property
    def bottleneck_ms(self) -> float:
        """Milliseconds between results at full load.

        The agent's network thread carries one request's tensors while its inference thread works
        on another's, so the slower of the two sets the pace.
        """
        return max(self.invoke_ms, self.link_ms)


def stage_cost(graph: Graph, device: Device, start: int, stop: int) -> StageCost:
    """Return the cost of operators ``[start, stop)`` on ``device``.

    Raises:
        IndexError: The range is not one of the graph's.
    """
    in_bytes, out_bytes = graph.boundary_bytes(start), graph.boundary_bytes(stop)
    weight_bytes = graph.weight_bytes(start, stop)
    macs = graph.macs(start, stop)
    if device.stage_times is None:
        work_macs = sum(_work_macs(graph, index) for index in range(start, stop))
        invoke_ns = _invoke_ns(np.int64(work_macs), device)
    else:
        invoke_ns = device.stage_times.invoke_ns(start, stop, in_bytes + out_bytes)
    return StageCost(
        invoke_ms=_to_ms(int(invoke_ns)),
        receive_ms=_to_ms(int(_transfer_ns(np.int64(in_bytes), device))),
        send_ms=_to_ms(int(_transfer_ns(np.int64(out_bytes), device))),
        ram_bytes=_ram_bytes(
            weight_bytes, graph.peak_activation_bytes(start, stop), in_bytes + out_bytes
        ),
        storage_bytes=weight_bytes + (stop - start) * _FILE_BYTES_PER_OPERATOR,
        in_bytes=in_bytes,
        out_bytes=out_bytes,
        macs=macs,
        invoke_source="estimated" if device.stage_times is None else "measured",
        link_source=device.link_source,
    )


def operator_work_macs(graph: Graph) -> list[int]:
    """Return each operator's work, in multiply-accumulates; see the module's text."""
    return [_work_macs(graph, index) for index in range(len(graph.operators))]


def total_work_macs(graph: Graph) -> int:
    """Return the model's work, in multiply-accumulates; see the module's text.

    A board that runs the whole model in ``t`` milliseconds has a speed of
    ``total_work_macs(graph) / t / 1e6`` for :attr:`Device.speed_gmac_s`.
    """
    return sum(operator_work_macs(graph))


@dataclass(frozen=True)
class StageTable:
    """What all stages between some positions take, whatever the board.

    Attributes:
        positions: ``(n,)``, where a stage may start or stop, ascending.
        work_macs: ``(n, n)``, of the stage from one position to another; 0 where it is empty.
        ram_bytes: ``(n, n)``, as :attr:`StageCost.ram_bytes`.
        storage_bytes: ``(n, n)``, as :attr:`StageCost.storage_bytes`.
        boundary_bytes: ``(n,)``, what crosses each position.
    """

    positions: IntArray
    work_macs: IntArray
    ram_bytes: IntArray
    storage_bytes: IntArray
    boundary_bytes: IntArray

    @classmethod
    def of(cls, graph: Graph, positions: Sequence[int]) -> StageTable:
        """Return the table of all stages of ``graph`` between ``positions``."""
        at = np.array(positions, np.int64)
        between = np.ix_(at, at)
        work_before = np.cumsum([0, *operator_work_macs(graph)])[at]
        boundary_bytes = np.array([graph.boundary_bytes(position) for position in positions])
        weight_bytes = graph.weight_table()[between]
        activation_bytes = graph.peak_activation_table()[between]
        crossing_bytes = boundary_bytes[:, None] + boundary_bytes
        return cls(
            positions=at,
            work_macs=work_before - work_before[:, None],
            ram_bytes=_ram_bytes(weight_bytes, activation_bytes, crossing_bytes),
            storage_bytes=weight_bytes + (at - at[:, None]) * _FILE_BYTES_PER_OPERATOR,
            boundary_bytes=boundary_bytes,
        )

    def invoke_ns(self, device: Device) -> IntArray:
        """Return ``(n, n)`` nanoseconds of one inference of each stage on ``device``."""
        if device.stage_times is not None:
            crossing_bytes = self.boundary_bytes[:, None] + self.boundary_bytes
            return device.stage_times.invoke_ns(
                self.positions[:, None], self.positions, crossing_bytes
            )
        result: IntArray = _invoke_ns(self.work_macs, device)
        return result

    def link_ns(self, device: Device) -> IntArray:
        """Return ``(n, n)`` nanoseconds that a request occupies ``device``'s link, in and out."""
        transfer_ns = _transfer_ns(self.boundary_bytes, device)
        result: IntArray = transfer_ns[:, None] + transfer_ns
        return result


def _work_macs(graph: Graph, index: int) -> int:
    operator = graph.operators[index]
    moved_bytes = operator.weight_bytes + sum(
        graph.tensors[tensor].size_bytes for tensor in operator.outputs
    )
    return operator.macs + _MACS_PER_BYTE * moved_bytes + _MACS_PER_OPERATOR


def _ram_bytes(weight_bytes: Any, activation_bytes: Any, crossing_bytes: Any) -> Any:
    """Return the memory of a stage, from integers or arrays of them."""
    return (
        AGENT_RAM_BYTES + 2 * weight_bytes + activation_bytes + MESSAGES_IN_FLIGHT * crossing_bytes
    )


def _invoke_ns(work_macs: Any, device: Device) -> Any:
    # 10^9 a second are 1 a nanosecond.
    return np.rint(work_macs / device.speed_gmac_s).astype(np.int64)


def _transfer_ns(size_bytes: Any, device: Device) -> Any:
    bits_ns = size_bytes * 8_000 / device.link_mbit_s
    return np.rint(bits_ns + device.link_ms * _NS_PER_MS).astype(np.int64)


def _to_ms(nanoseconds: int) -> float:
    return nanoseconds / _NS_PER_MS


def _to_ns(milliseconds: float) -> int:
    return round(milliseconds * _NS_PER_MS)
