import socket
import threading
import time

import pytest

from edge_core.mqtt.wakeable_poll import READABLE, WRITABLE, WakeablePoll


@pytest.fixture
def ends() -> tuple[socket.socket, socket.socket]:
    here, there = socket.socketpair()
    with here, there:
        yield here, there


def test_data_and_room_are_told_apart(ends: tuple[socket.socket, socket.socket]) -> None:
    here, there = ends
    poll = WakeablePoll()
    poll.watch(here)
    assert poll.wait(0) == 0
    assert poll.wait(0, for_room=True) == WRITABLE
    assert poll.wait(0) == 0
    there.send(b"x")
    assert poll.wait(1) & READABLE
    assert poll.wait(1, for_room=True) & WRITABLE
    there.close()
    here.recv(1)
    assert poll.wait(1) & READABLE
    poll.forget()
    assert poll.wait(0) == 0


def test_another_thread_ends_a_wait() -> None:
    poll = WakeablePoll()
    started = time.monotonic()
    waker = threading.Timer(0.1, poll.wake)
    waker.start()
    assert poll.wait(20) == 0
    waker.join()
    assert time.monotonic() - started < 10
    # A wake before the wait ends this wait, and only this one.
    poll.wake()
    assert poll.wait(20) == 0
    assert time.monotonic() - started < 10
    assert poll.wait(0.01) == 0


def test_many_wakes_do_not_block() -> None:
    poll = WakeablePoll()
    for _ in range(100_000):
        poll.wake()
    while poll.wait(0.01):
        pass
    poll.wake()
    assert poll.wait(20) == 0


def test_the_sockets_close_with_the_object() -> None:
    poll = WakeablePoll()
    kept = poll._wake_in
    assert kept.fileno() >= 0
    del poll
    assert kept.fileno() == -1
