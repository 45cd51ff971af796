from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pytest
from random_models import random_graph, seeded

from edge_core.contract.messages import MAX_DISPLACED_BYTES
from edge_partition.planning.cost_model import operator_work_macs
from edge_partition.planning.fit_messages import TimedMessage, fit_handling, fit_link
from edge_partition.planning.stage_times import StageTimes, TimedSlice, fit_stage_times
from edge_partition.profiling.choose_slices import choose_slices, displaced_bytes

if TYPE_CHECKING:
    from edge_partition.tflite.graph import Graph


def boundaries(graph: Graph) -> list[int]:
    return [graph.boundary_bytes(position) for position in range(len(graph.operators) + 1)]


def truth(graph: Graph, *, seed: int, fixed_ns: int, ns_per_byte: float) -> StageTimes:
    """Return random operator times, independent of the operators' estimated work."""
    operator_ns = np.random.default_rng(seed).integers(10_000, 3_000_000, len(graph.operators))
    return StageTimes(
        tuple(np.cumsum([0, *operator_ns]).tolist()), fixed_ns=fixed_ns, ns_per_byte=ns_per_byte
    )


def time_slices(graph: Graph, times: StageTimes) -> list[TimedSlice]:
    crossing = boundaries(graph)
    return [
        TimedSlice(
            start,
            stop,
            float(times.invoke_ns(start, stop, crossing[start] + crossing[stop])) / 1e6,
        )
        for start, stop in choose_slices(graph)
    ]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("fixed_ns", "ns_per_byte"), [(0, 0.0), (30_000, 0.2), (500_000, 3.0)])
def test_exact_slice_times_give_exact_times_of_stages_between_slice_ends(
    seed: int, fixed_ns: int, ns_per_byte: float
) -> None:
    graph = random_graph(seeded(seed), 60)
    times = truth(graph, seed=seed, fixed_ns=fixed_ns, ns_per_byte=ns_per_byte)
    slices = time_slices(graph, times)
    crossing = boundaries(graph)
    fitted = fit_stage_times(slices, operator_work_macs(graph), crossing)
    ends = sorted({end for item in slices for end in (item.start, item.stop)})
    ratios = []
    for start, stop in combinations(ends, 2):
        bytes_ = crossing[start] + crossing[stop]
        expected = times.invoke_ns(start, stop, bytes_)
        ratios.append(float(expected) / sum(operator_work_macs(graph)[start:stop]))
        assert fitted.invoke_ns(start, stop, bytes_) == pytest.approx(expected, rel=1e-3)
    # The operators' estimated work alone does not predict these times.
    assert max(ratios) > 2 * min(ratios)


def test_a_stage_that_ends_within_a_slice_gets_a_share_of_the_slice_time_by_work() -> None:
    fitted = fit_stage_times([TimedSlice(0, 3, 6.0)], [1, 2, 3], [0, 0, 0, 0])
    assert fitted.before_ns == (0, 1_000_000, 3_000_000, 6_000_000) or sum(
        (fitted.before_ns[-1], fitted.fixed_ns)
    ) == pytest.approx(6_000_000, rel=1e-6)
    steps = np.diff(fitted.before_ns)
    np.testing.assert_allclose(steps / steps[0], [1, 2, 3], rtol=1e-4)


def test_fitted_times_are_not_negative_if_measurements_scatter() -> None:
    graph = random_graph(seeded(3), 60)
    random = np.random.default_rng(5)
    slices = [
        TimedSlice(item.start, item.stop, item.invoke_ms * float(random.uniform(0.5, 1.5)))
        for item in time_slices(graph, truth(graph, seed=3, fixed_ns=1000, ns_per_byte=0.1))
    ]
    fitted = fit_stage_times(slices, operator_work_macs(graph), boundaries(graph))
    assert min(np.diff(fitted.before_ns)) >= 0
    assert min(fitted.fixed_ns, fitted.ns_per_byte) >= 0


def test_a_timed_stage_has_its_measured_time() -> None:
    slices = [TimedSlice(0, 2, 2.0), TimedSlice(2, 4, 3.0), TimedSlice(0, 4, 9.0)]
    fitted = fit_stage_times(slices, [1, 1, 1, 1], [0, 8, 8, 8, 0])
    for item in slices:
        assert fitted.invoke_ns(item.start, item.stop, 8) == item.invoke_ms * 1e6
    assert fitted.invoke_ns(1, 2, 16) < 2e6
    table_ns = fitted.table_ns([0, 2, 3, 4], [0, 2, 3, 4], 8)
    assert table_ns[0, 1] == 2e6
    assert table_ns[1, 3] == 3e6
    assert table_ns[0, 3] == 9e6
    assert table_ns[0, 2] == fitted.invoke_ns(0, 3, 8)


def test_a_stage_timed_several_times_has_the_median_time() -> None:
    slices = [TimedSlice(0, 2, ms) for ms in (4.0, 9.0, 5.0)] + [TimedSlice(2, 3, 1.0)]
    fitted = fit_stage_times(slices, [1, 1, 1], [0, 0, 0, 0])
    assert fitted.invoke_ns(0, 2, 0) == 5e6


def test_the_error_names_an_operator_that_no_slice_contains() -> None:
    with pytest.raises(ValueError, match="operator 2"):
        fit_stage_times(
            [TimedSlice(0, 2, 1.0), TimedSlice(3, 4, 1.0)], [1, 1, 1, 1], [0, 0, 0, 0, 0]
        )


@pytest.mark.parametrize("operator_count", [1, 2, 7, 200])
def test_at_most_31_slices_cover_the_model_and_end_at_cuts(operator_count: int) -> None:
    graph = random_graph(seeded(operator_count), operator_count)
    slices = choose_slices(graph)
    assert len(set(slices)) == len(slices) <= 31
    assert {index for start, stop in slices for index in range(start, stop)} == set(
        range(operator_count)
    )
    assert {end for item in slices for end in item} <= {0, *graph.cuts, operator_count}
    assert (0, operator_count) in slices


def test_displaced_bytes_are_other_weights_of_the_model_up_to_a_limit() -> None:
    graph = random_graph(seeded(4), 100)
    whole_bytes = graph.weight_bytes(0, 100)
    least_bytes = displaced_bytes(graph, 0, 100)
    assert 0 < least_bytes < 0.1 * whole_bytes
    for start, stop in choose_slices(graph):
        displaced = displaced_bytes(graph, start, stop)
        rest_bytes = whole_bytes - graph.weight_bytes(start, stop)
        assert least_bytes <= displaced <= max(least_bytes, rest_bytes)
        # Boards accept at most MAX_DISPLACED_BYTES.
        assert displaced <= MAX_DISPLACED_BYTES < 0.2 * whole_bytes
        if stop - start < 10:
            assert displaced == MAX_DISPLACED_BYTES


def timed(size_bytes: int, *, cores: float) -> TimedMessage:
    """Return times of a message on a board with a link of 40 Mbit/s and a delay of 0.7 ms.

    Handling takes 0.2 ms and 3 ms/MB in each direction. With pauses between messages, the processor
    time is 1.5 times as long.
    """
    cpu_ms = 2 * (0.2 + 3 * size_bytes / 1e6) * min(1, cores)
    way_ms = 0.7 + size_bytes * 8 / 40e6 * 1e3
    handled_ms = cpu_ms / min(1, cores)
    lone_ms, window_ms = handled_ms + 2 * way_ms, max(handled_ms, 2 * way_ms)
    return TimedMessage(size_bytes, lone_ms, window_ms, cpu_ms, 1.5 * cpu_ms)


@pytest.mark.parametrize("cores", [0.25, 1.0, 4.0])
def test_timed_messages_give_link_and_handling_times(cores: float) -> None:
    messages = [timed(size, cores=cores) for size in (1000, 16_000, 64_000, 256_000)]
    link, handling = fit_link(messages, cores), fit_handling(messages, cores)
    assert link.mbit_s == pytest.approx(40, rel=1e-3)
    assert link.fixed_ms == pytest.approx(0.7, rel=1e-3)
    assert handling.fixed_ms == pytest.approx(0.3, rel=1e-3)
    assert handling.ms_per_mb == pytest.approx(4.5, rel=1e-3)


def test_the_bandwidth_comes_from_several_messages_in_flight() -> None:
    # A lone message waits another 10 ms in each direction; several messages in flight do not.
    slow = [TimedMessage(size, 20 + size / 1e4, 20.0, 0.1, 0.1) for size in (1000, 250_000)]
    quick = [TimedMessage(size, 20 + size / 1e4, 4.0, 0.1, 0.1) for size in (1000, 250_000)]
    assert fit_link(slow, 1.0).mbit_s == pytest.approx(200, rel=0.1)
    assert fit_link(quick, 1.0).mbit_s == pytest.approx(1000)


def test_the_bandwidth_is_finite_if_times_do_not_depend_on_size() -> None:
    link = fit_link([TimedMessage(size, 1.0, 1.0, 2.0, 2.0) for size in (1000, 100_000)], 1.0)
    assert 0 < link.mbit_s <= 1e6
    assert link.fixed_ms >= 0
