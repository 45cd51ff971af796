from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
from random_models import random_fleet, random_graph, seeded

from edge_partition.cost_model import AGENT_RAM_BYTES, StageTable, stage_cost, total_work_macs
from edge_partition.fleet import Device


def test_the_table_agrees_with_the_single_stage_everywhere() -> None:
    rng = seeded(1)
    graph = random_graph(rng, 12)
    device = random_fleet(rng, 1, ram_mib=(100, 200)).devices[0]
    positions = (0, *graph.cuts, 12)
    table = StageTable.of(graph, positions)
    invoke_ns, link_ns = table.invoke_ns(device), table.link_ns(device)
    for row, column in combinations(range(len(positions)), 2):
        cost = stage_cost(graph, device, positions[row], positions[column])
        assert invoke_ns[row, column] == round(cost.invoke_ms * 1e6)
        assert link_ns[row, column] == round(cost.link_ms * 1e6)
        assert table.ram_bytes[row, column] == cost.ram_bytes
        assert table.storage_bytes[row, column] == cost.storage_bytes


def test_a_stage_needs_the_agent_its_weights_twice_its_activations_and_its_messages() -> None:
    graph = random_graph(seeded(2), 5)
    cost = stage_cost(graph, Device("pi"), 1, 4)
    assert cost.ram_bytes == (
        AGENT_RAM_BYTES
        + 2 * graph.weight_bytes(1, 4)
        + graph.peak_activation_bytes(1, 4)
        + 4 * (graph.boundary_bytes(1) + graph.boundary_bytes(4))
    )


def test_the_link_takes_its_bits_and_a_fixed_time_a_message() -> None:
    graph = random_graph(seeded(2), 5)
    cost = stage_cost(graph, Device("pi", link_mbit_s=100, link_ms=2), 0, 3)
    assert cost.receive_ms == pytest.approx(graph.boundary_bytes(0) * 8 / 100e6 * 1e3 + 2)
    assert cost.send_ms == pytest.approx(graph.boundary_bytes(3) * 8 / 100e6 * 1e3 + 2)
    assert cost.latency_ms == pytest.approx(cost.invoke_ms + cost.receive_ms + cost.send_ms)


def test_a_measured_time_gives_the_speed_that_predicts_it() -> None:
    graph = random_graph(seeded(2), 9)
    speed_gmac_s = total_work_macs(graph) / 37.5 / 1e6
    cost = stage_cost(graph, Device("pi", speed_gmac_s=speed_gmac_s), 0, 9)
    assert cost.invoke_ms == pytest.approx(37.5)


def test_twice_the_speed_halves_the_inference_and_leaves_the_link() -> None:
    graph = random_graph(seeded(2), 9)
    slow = stage_cost(graph, Device("pi", speed_gmac_s=4), 2, 7)
    fast = stage_cost(graph, Device("pi", speed_gmac_s=8), 2, 7)
    assert fast.invoke_ms == pytest.approx(slow.invoke_ms / 2)
    assert fast.link_ms == slow.link_ms


def test_a_float16_wire_halves_what_crosses_inside_and_nothing_else() -> None:
    graph = random_graph(seeded(3), 8)
    narrow = replace(graph, wire="float16")
    ends = {*graph.inputs, *graph.outputs}
    for position in range(1, 8):
        kept = sum(t.size_bytes for t in graph.boundary(position) if t.index in ends)
        inside = graph.boundary_bytes(position) - kept
        assert inside > 0
        assert narrow.boundary_bytes(position) == kept + inside / 2
    assert narrow.boundary_bytes(0) == graph.boundary_bytes(0)
    assert narrow.boundary_bytes(8) == graph.boundary_bytes(8)
    before, after = (stage_cost(which, Device("pi"), 2, 6) for which in (graph, narrow))
    assert after.link_ms < before.link_ms
    saved = before.in_bytes + before.out_bytes - after.in_bytes - after.out_bytes
    assert before.ram_bytes - after.ram_bytes == 4 * saved
    assert (after.invoke_ms, after.storage_bytes) == (before.invoke_ms, before.storage_bytes)
