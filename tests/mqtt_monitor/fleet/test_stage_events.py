from __future__ import annotations

from mqtt_monitor.fleet.stage_events import StageEvents


def test_a_mismatch_is_reported_once_for_each_generation() -> None:
    events = StageEvents()
    assert not events.is_new_mismatch("g1", "g2", settled=False)
    assert events.is_new_mismatch("g1", "g2", settled=True)
    assert not events.is_new_mismatch("g1", "g2", settled=True)
    assert events.is_new_mismatch("g0", "g2", settled=True)
    assert not events.is_new_mismatch("g2", "g2", settled=True)
    assert events.is_new_mismatch("g0", "g2", settled=True), "reported again after a match"
    assert not events.is_new_mismatch(None, "g2", settled=True)
    assert not events.is_new_mismatch("g1", None, settled=True)


def test_many_errors_are_reported_and_again_after_a_minute() -> None:
    events = StageEvents()
    assert not events.is_new_burst(answered=0, failed=4, time_s=0)
    assert not events.is_new_burst(answered=91, failed=9, time_s=0)
    assert events.is_new_burst(answered=90, failed=10, time_s=0)
    assert not events.is_new_burst(answered=0, failed=100, time_s=60)
    assert events.is_new_burst(answered=0, failed=100, time_s=61)
