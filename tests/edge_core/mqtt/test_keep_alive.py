import pytest

from edge_core.mqtt.keep_alive import KeepAlive


@pytest.fixture
def alive() -> KeepAlive:
    keep_alive = KeepAlive(10)
    keep_alive.start(None, now=100)
    return keep_alive


def test_a_ping_is_due_when_either_direction_was_silent_for_half_a_keep_alive(
    alive: KeepAlive,
) -> None:
    assert alive.due_at == 105
    alive.sent_at = 104
    assert alive.due_at == 105
    alive.received_at = 103
    assert alive.due_at == 108
    alive.note_ping(108, None)
    assert alive.due_at == 113


def test_the_broker_may_ask_for_another_keep_alive(alive: KeepAlive) -> None:
    alive.start(60, now=200)
    assert (alive.period_s, alive.due_at) == (60, 230)
    alive.start(None, now=300)
    assert (alive.period_s, alive.due_at) == (10, 305)


def test_a_broker_is_lost_after_one_and_a_half_keep_alives_of_silence(alive: KeepAlive) -> None:
    alive.note_ping(115, None)
    with pytest.raises(TimeoutError, match=r"^no data for 16 s$"):
        alive.note_ping(115.6, None)


@pytest.mark.parametrize(
    ("before", "now", "is_sign"),
    [
        ((1000, 5000), (2000, 5000), True),
        ((1000, 5000), (1000, 5000), False),  # Nothing was delivered.
        ((5000, 5000), (5002, 5002), False),  # Only the ping was delivered: the broker owes a PONG.
        ((1000, 5000), (5000, 5002), False),  # All data from before the ping was delivered.
    ],
)
def test_data_that_is_being_delivered_is_a_sign_of_the_broker(
    alive: KeepAlive, before: tuple[int, int], now: tuple[int, int], is_sign: bool
) -> None:
    alive.note_ping(105, before)
    if is_sign:
        alive.note_ping(120, now)
        assert alive.received_at == 120
    else:
        with pytest.raises(TimeoutError):
            alive.note_ping(120, now)
