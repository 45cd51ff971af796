from __future__ import annotations

from typing import TYPE_CHECKING

from edge_partition.planning.read_plan import read_plan
from edge_partition.simulation.event_queue import EventQueue
from edge_partition.simulation.simulated_client import SimulatedClient
from edge_partition.simulation.stream import Stream

if TYPE_CHECKING:
    from edge_partition.simulation.simulated_board import Copy

#: Answered requests that may wait for an older one, for a window of 2.
MOST_ANSWERED = 64


def test_one_slow_answer_holds_the_stream_only_when_the_buffer_of_answers_is_full() -> None:
    times = {"invoke_ms": 1.0, "handling_ms": 0.0, "receive_ms": 0.0, "send_ms": 0.0}
    plan = read_plan({"stages": [{"replicas": [{"device": "a", **times}]}]})
    events, sent = EventQueue(), []

    def publish(copy: Copy) -> None:
        sent.append(events.now_ms)
        events.call_after(5_000 if len(sent) == 1 else 1, client.take_result, copy)

    client = SimulatedClient(events, plan, Stream(200, window=2), publish)
    client.start()
    events.run()
    # Two requests go first, then one after each answer.
    before = [sent_ms for sent_ms in sent if sent_ms < 5_000]
    assert len(before) == 1 + MOST_ANSWERED
    assert before[-1] == MOST_ANSWERED - 1
    assert client.outcomes == {"answered": 200, "timed_out": 0}
