"""The monitor as a process, and a stream of requests to boards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from desk import PATIENCE_S

from edge_partition.client.pipeline import Pipeline

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from desk import Desk


MONITOR = Path(sys.executable).parent / "mqtt-monitor"


def monitor(url: str, *words: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "EDGE_PARTITION_BROKER": url}
    return subprocess.run(
        [MONITOR, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
    )


def shown(url: str, *words: object) -> dict[str, Any]:
    result = monitor(url, *words)
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    return document


@contextmanager
def stream(desk: Desk, images: list[dict[str, np.ndarray]]) -> Iterator[None]:
    """Send requests to the boards for the time of the ``with`` block."""
    ended = threading.Event()

    def endless() -> Iterator[dict[str, np.ndarray]]:
        while not ended.wait(0.02):
            yield images[0]

    def work() -> None:
        with Pipeline("digits", desk.url) as pipeline:
            for _ in pipeline.stream(endless()):
                pass

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield
    finally:
        ended.set()
        worker.join(PATIENCE_S)
