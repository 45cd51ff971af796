from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import get_args

import pytest
from random_models import random_fleet, random_graph, seeded

from edge_core.contract.messages import RECEIVE_MAXIMUM
from edge_partition.planning.cost_model import (
    StageTable,
    stage_cost,
    total_work_macs,
)
from edge_partition.planning.fit_messages import HandlingTimes
from edge_partition.planning.fleet import Device
from edge_partition.planning.stage_memory import AGENT_RAM_BYTES
from edge_partition.tflite.graph import Wire


@pytest.mark.parametrize("quantized", [0, 1, 2])
def test_the_stage_table_equals_the_cost_of_every_single_stage(quantized: int) -> None:
    """``quantized`` of each two operators have int8 results."""
    rng = seeded(1)
    graph = random_graph(rng, 12)
    int8 = {tensor for op in graph.operators if op.index % 2 < quantized for tensor in op.outputs}
    tensors = [replace(t, dtype="int8") if t.index in int8 else t for t in graph.tensors]
    graph = replace(graph, tensors=tuple(tensors))
    device = random_fleet(rng, 1, ram_mib=(100, 200)).devices[0]
    device = replace(device, int8_speedup=3.3, active_watts=5.9, idle_watts=2.7)
    positions = (0, *graph.cuts, 12)
    table = StageTable.of(graph, positions)
    assert (table.float_macs.any(), table.int8_macs.any()) == (quantized < 2, quantized > 0)
    invoke_ns, transfer_ns = table.invoke_ns(device), table.transfer_ns(device)
    handling_ns, busy_ns = table.handling_ns(device), table.busy_ns(device)
    bottleneck_ns, latency_ns = table.bottleneck_and_latency_ns(device)
    energy_uj = table.energy_uj(device)
    for row, column in combinations(range(len(positions)), 2):
        cost = stage_cost(graph, device, positions[row], positions[column])
        assert invoke_ns[row, column] == round(cost.invoke_ms * 1e6)
        assert transfer_ns[row, column] == round(cost.transfer_ms * 1e6)
        assert handling_ns[row, column] == round(cost.handling_ms * 1e6)
        assert busy_ns[row, column] == round(cost.busy_ms * 1e6)
        assert bottleneck_ns[row, column] == round(cost.bottleneck_ms * 1e6)
        assert latency_ns[row, column] == round(cost.latency_ms * 1e6)
        assert cost.energy_j is not None
        assert energy_uj[row, column] == round(cost.energy_j * 1e6)
        assert table.ram_bytes[row, column] == cost.ram_bytes
        assert table.storage_bytes[row, column] == cost.storage_bytes


def test_a_stage_needs_memory_for_agent_weights_activations_and_messages() -> None:
    graph = random_graph(seeded(2), 5)
    cost = stage_cost(graph, Device("pi"), 1, 4)
    assert cost.ram_bytes == (
        AGENT_RAM_BYTES
        + graph.weight_bytes(1, 4)
        + graph.peak_activation_bytes(1, 4)
        + 3 * (graph.boundary_bytes(1) + graph.boundary_bytes(4))
    )


def test_the_first_stage_needs_memory_for_the_messages_that_a_client_sends_at_once() -> None:
    graph = random_graph(seeded(2), 5)
    cost = stage_cost(graph, Device("pi"), 0, 4)
    rest = AGENT_RAM_BYTES + graph.weight_bytes(0, 4) + graph.peak_activation_bytes(0, 4)
    messages = (RECEIVE_MAXIMUM + 5) * graph.boundary_bytes(0) + 3 * graph.boundary_bytes(4)
    assert cost.ram_bytes == rest + messages


def test_link_time_is_bits_over_bandwidth_and_a_fixed_delay_per_message() -> None:
    graph = random_graph(seeded(2), 5)
    cost = stage_cost(graph, Device("pi", link_mbit_s=100, link_ms=2), 0, 3)
    assert cost.receive_ms == pytest.approx(graph.boundary_bytes(0) * 8 / 100e6 * 1e3 + 2)
    assert cost.send_ms == pytest.approx(graph.boundary_bytes(3) * 8 / 100e6 * 1e3 + 2)
    assert cost.latency_ms == pytest.approx(
        cost.invoke_ms + cost.handling_ms + cost.receive_ms + cost.send_ms
    )


def test_the_link_delay_adds_to_the_latency_but_not_to_the_bottleneck() -> None:
    graph = random_graph(seeded(2), 5)
    near, far = (
        stage_cost(graph, Device("pi", link_mbit_s=1, link_ms=link_ms), 0, 3)
        for link_ms in (0, 500)
    )
    assert near.bottleneck_ms == near.link_ms == far.bottleneck_ms
    assert far.latency_ms == pytest.approx(near.latency_ms + 1000)


def test_handling_time_has_a_fixed_part_and_a_part_per_byte() -> None:
    graph = random_graph(seeded(2), 5)
    crossing_mb = (graph.boundary_bytes(1) + graph.boundary_bytes(3)) / 1e6
    device = Device("pi", handling=HandlingTimes(0.7, 3.0))
    cost = stage_cost(graph, device, 1, 3)
    assert cost.handling_ms == pytest.approx(2 * 0.7 + 3.0 * crossing_mb)
    assert (cost.handling_source, cost.invoke_source) == ("measured", "estimated")
    fast, slow = (stage_cost(graph, Device("pi", speed_gmac_s=s), 1, 3) for s in (10, 5))
    assert slow.handling_ms == pytest.approx(2 * fast.handling_ms)
    assert slow.handling_source == "estimated"


@pytest.mark.parametrize(("threads", "cores"), [(1, 0.2), (4, None), (1, 2.0), (3, 4.0)])
def test_one_thread_reads_infers_and_writes(threads: int, cores: float | None) -> None:
    graph = random_graph(seeded(2), 9)
    device = Device("pi", speed_gmac_s=2.0, threads=threads, cores=cores, link_mbit_s=1e5)
    cost = stage_cost(graph, device, 0, 9)
    assert 0 < cost.handling_ms < cost.invoke_ms
    assert cost.busy_ms == pytest.approx(cost.invoke_ms + cost.handling_ms)
    assert cost.bottleneck_ms == cost.busy_ms


def test_the_energy_of_a_request_is_the_power_above_idle_while_the_processors_are_busy() -> None:
    graph = random_graph(seeded(2), 9)
    cost = stage_cost(graph, Device("pi", active_watts=5.0, idle_watts=2.0), 0, 9)
    assert cost.handling_ms > 0
    assert cost.energy_j == pytest.approx(3.0 * cost.busy_ms / 1000, rel=1e-4)
    assert stage_cost(graph, Device("pi"), 0, 9).energy_j is None
    with pytest.raises(ValueError, match="power of pi is not known"):
        StageTable.of(graph, (0, 9)).energy_uj(Device("pi"))


def test_the_speed_from_a_measured_time_predicts_the_measured_time() -> None:
    graph = random_graph(seeded(2), 9)
    speed_gmac_s = total_work_macs(graph) / 37.5 / 1e6
    cost = stage_cost(graph, Device("pi", speed_gmac_s=speed_gmac_s), 0, 9)
    assert cost.invoke_ms == pytest.approx(37.5)


def test_twice_the_speed_halves_the_inference_time_but_not_the_link_time() -> None:
    graph = random_graph(seeded(2), 9)
    slow = stage_cost(graph, Device("pi", speed_gmac_s=4), 2, 7)
    fast = stage_cost(graph, Device("pi", speed_gmac_s=8), 2, 7)
    assert fast.invoke_ms == pytest.approx(slow.invoke_ms / 2)
    assert fast.link_ms == slow.link_ms


def test_a_float16_wire_halves_only_the_inner_tensors_of_a_boundary() -> None:
    graph = random_graph(seeded(3), 8)
    ends = {*graph.inputs, *graph.outputs}
    for position in range(1, 8):
        kept = sum(t.size_bytes for t in graph.boundary(position) if t.index in ends)
        inside = graph.boundary_bytes(position) - kept
        assert inside > 0
        assert graph.boundary_bytes(position, "float16") == kept + inside / 2
    assert graph.boundary_bytes(0, "float16") == graph.boundary_bytes(0)
    assert graph.boundary_bytes(8, "float16") == graph.boundary_bytes(8)
    before, after = (stage_cost(graph, Device("pi"), 2, 6, (wire, wire)) for wire in get_args(Wire))
    assert after.link_ms < before.link_ms
    saved = before.in_bytes + before.out_bytes - after.in_bytes - after.out_bytes
    assert before.ram_bytes - after.ram_bytes == 3 * saved
    assert (after.invoke_ms, after.storage_bytes) == (before.invoke_ms, before.storage_bytes)
