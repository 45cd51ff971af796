from __future__ import annotations

from typing import TYPE_CHECKING

from fleet_messages import Watched, manifest, stage, stats

if TYPE_CHECKING:
    from mqtt_monitor.fleet.snapshot import Boundary


def watched_with(counts: list[tuple[int, int]], restart_at: int | None = None) -> Boundary:
    """Send counts of two stages, period by period; return the boundary between them."""
    watched = Watched().tell(manifest(0, ["pi-1"], ["pi-2"]))
    for sequence, (sent, arrived) in enumerate(counts, start=1):
        now = 5.0 * sequence
        watched.tell(stats(now, "pi-1", sequence, stage(0, sent)))
        own = sequence if restart_at is None or sequence < restart_at else sequence - restart_at + 1
        watched.tell(stats(now + 2, "pi-2", own, stage(1, arrived)))
    return watched.at(5.0 * len(counts) + 3).deployments["net"].stages[1].input


REST = [(100, 100)] * 4


def test_nothing_is_counted_before_the_first_idle_time() -> None:
    crossing = watched_with([(100 * n, 100 * n - 40) for n in range(1, 8)])
    assert (crossing.lost, crossing.repeated) == (None, None)


def test_no_message_was_lost() -> None:
    crossing = watched_with([*REST, (150, 140), (200, 190), *[(200, 200)] * 4])
    assert (crossing.lost, crossing.repeated) == (0, 0)


def test_lost_messages_are_counted_when_idle() -> None:
    crossing = watched_with([*REST, (150, 140), *[(200, 193)] * 4, (300, 290), *[(300, 290)] * 4])
    assert (crossing.lost, crossing.repeated) == (10, 0)


def test_repeated_messages_are_counted_when_idle() -> None:
    crossing = watched_with([*REST, (150, 140), *[(200, 204)] * 4])
    assert (crossing.lost, crossing.repeated) == (0, 4)


def test_unreported_counts_of_a_killed_board_are_not_lost_messages() -> None:
    crossing = watched_with([*REST, (150, 140), (200, 5), *[(200, 10)] * 4], restart_at=6)
    assert (crossing.lost, crossing.repeated) == (0, 0)
