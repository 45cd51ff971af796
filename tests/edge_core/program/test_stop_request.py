from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

from edge_core.program.stop_request import StopRequest

#: Sets, awaits and reads the request while signals arrive.
_PROGRAM = """
import os, sys, threading
from edge_core.program.stop_request import StopRequest

def send():
    while not done:
        os.kill(os.getpid(), int(sys.argv[1]))
        sent.append(1)

sent, done = [], []
request = StopRequest.on_signals()
sender = threading.Thread(target=send, daemon=True)
sender.start()
while len(sent) < 5000:
    request.set()
    assert request.wait(1) and request.is_set()
done.append(1)
sender.join()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_in_quick_succession_block_nothing(
    number: signal.Signals,
) -> None:
    subprocess.run([sys.executable, "-c", _PROGRAM, str(int(number))], check=True, timeout=30)


def test_a_request_stays_set_for_all_waiting_threads() -> None:
    request = StopRequest()
    assert not request.is_set()
    assert not request.wait(0.01)
    ended: list[bool] = []
    waiters = [threading.Thread(target=lambda: ended.append(request.wait(20))) for _ in range(3)]
    for waiter in waiters:
        waiter.start()
    request.set()
    for waiter in waiters:
        waiter.join(20)
    assert ended == [True] * 3
    assert request.is_set()
    assert request.wait()
