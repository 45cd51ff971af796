from __future__ import annotations

import pytest

from edge_partition.simulation.event_queue import EventQueue
from edge_partition.simulation.shared_server import SharedServer


def ends_ms(shared_speed: float, *jobs: tuple[float, int, float]) -> list[tuple[str, float, float]]:
    """Return (job, start, end) in order of the ends; jobs are (time added, queue, work)."""
    events = EventQueue()
    server, ended = SharedServer(events, shared_speed), []

    def note(job: str, started_ms: float) -> None:
        ended.append((job, started_ms, events.now_ms))

    for number, (added_ms, queue, work_ms) in enumerate(jobs):
        events.call_after(added_ms, server.add, queue, work_ms, f"job {number}", note)
    events.run()
    return ended


def test_jobs_of_one_queue_run_one_after_another_at_full_speed() -> None:
    assert ends_ms(0.5, (0, 0, 10), (2, 0, 5)) == [("job 0", 0, 10), ("job 1", 10, 15)]


@pytest.mark.parametrize(("shared_speed", "ends"), [(0.5, (8, 14)), (1.0, (4, 10)), (0.8, (5, 11))])
def test_jobs_of_two_queues_share_the_server(
    shared_speed: float, ends: tuple[float, float]
) -> None:
    ended = ends_ms(shared_speed, (0, 0, 10), (0, 1, 4))
    assert [job for job, _, _ in ended] == ["job 1", "job 0"]
    assert tuple(end for _, _, end in ended) == pytest.approx(ends)


def test_a_later_job_slows_the_rest_of_the_first_job() -> None:
    ended = ends_ms(0.5, (0, 0, 10), (6, 1, 20))
    assert ended == [("job 0", 0, pytest.approx(14)), ("job 1", 6, pytest.approx(30))]


def test_a_cleared_server_drops_its_jobs_and_accepts_new_jobs() -> None:
    events, ended = EventQueue(), []
    server = SharedServer(events, 1.0)
    server.add(0, 10, "lost", lambda job, _: ended.append((job, events.now_ms)))
    events.call_after(4, server.clear)
    events.call_after(5, server.add, 0, 2, "new", lambda job, _: ended.append((job, events.now_ms)))
    events.run()
    assert ended == [("new", 7)]
