from __future__ import annotations

from mqtt_monitor.fleet.unconfirmed import CONFIRMATION_S, Unconfirmed


def test_unpublished_names_are_missing_once_after_the_wait() -> None:
    names = Unconfirmed()
    names.begin(["pi-2", "pi-1", "pi-3"], ["net", "other"], 100.0)
    names.confirm_device("pi-2")
    names.confirm_deployment("other")
    names.confirm_device("never-known")
    until_s = 100.0 + CONFIRMATION_S
    assert names.take_overdue(until_s - 0.1) is None
    assert names.take_overdue(until_s + 5) == (until_s, ["pi-1", "pi-3"], ["net"])
    assert names.take_overdue(until_s + 6) is None


def test_a_connection_that_is_lost_again_ends_the_wait() -> None:
    names = Unconfirmed()
    names.begin(["pi-1"], [], 100.0)
    names.cancel()
    assert names.take_overdue(1e9) is None
