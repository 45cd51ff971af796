from __future__ import annotations

from edge_partition.simulation.event_queue import EventQueue


def test_calls_run_in_order_of_time_and_at_equal_times_in_the_order_added() -> None:
    events, seen = EventQueue(), []

    def note(name: str) -> None:
        seen.append((events.now_ms, name))

    for delay_ms, name in ((2.0, "late"), (1.0, "first"), (1.0, "second"), (0.0, "now")):
        events.call_after(delay_ms, note, name)
    events.run()
    assert seen == [(0.0, "now"), (1.0, "first"), (1.0, "second"), (2.0, "late")]


def test_the_delay_of_a_call_added_by_a_call_counts_from_the_current_time() -> None:
    events, times_ms = EventQueue(), []

    def again(left: int) -> None:
        times_ms.append(events.now_ms)
        if left:
            events.call_after(1.5, again, left - 1)

    events.call_after(1.0, again, 2)
    events.run()
    assert times_ms == [1.0, 2.5, 4.0]


def test_nothing_runs_after_the_queue_is_cleared() -> None:
    events, seen = EventQueue(), []
    events.call_after(1.0, events.clear)
    events.call_after(1.0, seen.append, "after")
    events.run()
    assert seen == []
    assert events.now_ms == 1.0
