from __future__ import annotations

from mqtt_monitor.terminal.redraw_schedule import RedrawSchedule


def test_an_expensive_drawing_makes_new_messages_wait() -> None:
    schedule = RedrawSchedule()
    schedule.note_drawn(1, now_s=100.0, cost_s=0.05)
    assert not schedule.is_due(2, 100.9)
    assert schedule.is_due(2, 101.0), "0.05 s are 5 % of a second"


def test_without_new_messages_it_is_drawn_every_two_seconds() -> None:
    schedule = RedrawSchedule()
    schedule.note_drawn(1, now_s=100.0, cost_s=0.0)
    assert schedule.is_due(2, 100.0)
    assert not schedule.is_due(1, 101.9)
    assert schedule.is_due(1, 102.0)
    schedule.reset()
    assert schedule.is_due(1, 100.0)
