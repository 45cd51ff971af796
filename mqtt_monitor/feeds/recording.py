"""Writes and replays recordings: files of recorded messages, one JSON object per line.

```
{"recording": 1, "prefix": "edge/v1", "broker": "mqtt://hub:1883", "time_s": 1764000000.0}
{"time_s": 1764000000.2, "topic": "edge/v1/device/pi-1/availability",
 "text": "online", "retained": true}   (one line in the file)
{"time_s": 1764000003.1, "connected": false, "reason": "Connection refused"}
```

If a payload is not UTF-8 text, the line has the field ``base64`` instead of ``text``. A result is
written without its payload, because a model's outputs are private. Each line is written with one
system call. If the recorder is killed, at most the last line is incomplete; the replay skips an
incomplete line.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import os
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from edge_core.contract.messages import ERROR, TRACE
from edge_core.contract.topics import TopicPrefixError
from edge_core.errors import EdgePartitionError
from mqtt_monitor.feeds.feed import Feed
from mqtt_monitor.fleet.arrival import Arrival
from mqtt_monitor.fleet.read_values import read_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORMAT = 1
_MAX_LINE_BYTES = 16 * 1024 * 1024


class RecordingError(EdgePartitionError):
    """A recording cannot be written or read.

    Attributes:
        path: The recording.
    """

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        super().__init__(f"{path}: {reason}")


class Recorder:
    """Writes a new recording up to a maximum size. A context manager.

    Attributes:
        path: The file.
        lines: Number of lines written so far.
        is_full: Whether the file has reached its maximum size; later messages are not written.
        failure: The error of a failed write; None: no write has failed. After a failed write,
            nothing more is written.
    """

    def __init__(self, path: Path, *, prefix: str, broker_url: str, max_bytes: int) -> None:
        """Create the file.

        Args:
            path: The file, which must not exist yet.
            prefix: The topics' prefix.
            broker_url: The broker's address, without secrets.
            max_bytes: Maximum size of the file, in bytes.

        Raises:
            RecordingError: The file exists or cannot be written.
        """
        self.path = path
        self.lines = 0
        self.is_full = False
        self.failure: RecordingError | None = None
        self._lock = threading.Lock()
        self._room_bytes = max_bytes
        try:
            # No buffer: if the process is killed, the file still has all lines written so far.
            self._file = path.open("xb", buffering=0)
        except FileExistsError:
            raise RecordingError(path, "exists already. Give the name of a new file.") from None
        except OSError as error:
            raise RecordingError(
                path,
                f"can't be written: {error.strerror or error}. Give a file in a folder that "
                "you can write to.",
            ) from None
        self._write(
            {"recording": FORMAT, "prefix": prefix, "broker": broker_url, "time_s": time.time()}
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._file.close()

    def write(self, arrival: Arrival) -> None:
        """Write a message as one line. A failed write raises no error but sets ``failure``."""
        line: dict[str, Any] = {"time_s": round(arrival.time_s, 3), "topic": arrival.topic}
        payload = arrival.payload
        if (
            arrival.topic.endswith("/result")
            and TRACE in arrival.user
            and ERROR not in arrival.user
        ):
            payload = b""
        try:
            line["text"] = payload.decode()
        except UnicodeDecodeError:
            line["base64"] = base64.b64encode(payload).decode()
        if arrival.retained:
            line["retained"] = True
        if arrival.correlation_data:
            line["correlation"] = arrival.correlation_data.hex()
        if arrival.user:
            line["user"] = dict(arrival.user)
        self._write(line)

    def note_broker(self, connected: bool, reason: str | None) -> None:
        """Write that the monitor connected to the broker or lost the connection."""
        line = {"time_s": round(time.time(), 3), "connected": connected}
        self._write({**line, "reason": reason} if reason else line)

    def _write(self, line: dict[str, Any]) -> None:
        data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            if self.is_full or self.failure is not None or self._file.closed:
                return
            if len(data) > self._room_bytes:
                self.is_full = True
                return
            try:
                self._file.write(data)
            except OSError as error:
                reason = error.strerror or str(error)
                self.failure = RecordingError(
                    self.path,
                    f"can't be written: {reason}. The file keeps the {self.lines:,} lines written "
                    "so far.",
                )
                return
            self._room_bytes -= len(data)
            self.lines += 1


class ReplayFeed(Feed):
    """A feed that replays a recording; its present time is the time of the last replayed line."""

    def __init__(self, path: Path, *, speed: float = math.inf) -> None:
        """Open a recording; :meth:`play` replays it.

        Args:
            path: The recording.
            speed: Speed of the replay: 1 is the recorded speed; infinity means no waiting between
                messages.

        Raises:
            RecordingError: The file cannot be read or is not a recording.
        """
        self._path = path
        self._speed = speed
        header = next(iter(_read_lines(path)), {})
        prefix, self._now_s = header.get("prefix"), _read_time(header)
        if header.get("recording") != FORMAT or not isinstance(prefix, str) or self._now_s is None:
            raise RecordingError(
                path,
                f"is not a recording of format {FORMAT}. Give a file that `mqtt-monitor record` of "
                "this version wrote.",
            )
        try:
            super().__init__(prefix, read_text(header.get("broker")) or "unknown")
        except TopicPrefixError as error:
            raise RecordingError(path, str(error)) from None
        self._note_broker(self._now_s, connected=True)

    def now_s(self) -> float:
        """Return the recorded time of the last replayed message, in seconds since the epoch."""
        return self._now_s or 0.0

    def play(self, stop: threading.Event | None = None) -> None:
        """Replay the whole recording, and return when the replay has ended.

        Args:
            stop: When another thread sets this event, the replay ends early.

        Raises:
            RecordingError: The file cannot be read.
        """
        stop = stop or threading.Event()
        for line in _read_lines(self._path):
            time_s = _read_time(line)
            if time_s is None:
                continue
            if math.isfinite(self._speed) and time_s > self.now_s():
                stop.wait(min((time_s - self.now_s()) / self._speed, threading.TIMEOUT_MAX))
            if stop.is_set():
                return
            self._now_s = time_s
            if isinstance(line.get("connected"), bool):
                reason = read_text(line.get("reason"))
                self._note_broker(time_s, connected=line["connected"], reason=reason)
            elif (arrival := _read_arrival(line, time_s)) is not None:
                self._fold(arrival)


@contextmanager
def playing(feed: ReplayFeed) -> Iterator[None]:
    """Replay a recording in a thread of its own while the ``with`` block runs.

    Raises:
        RecordingError: The file could not be read. The error is raised at the end of the block.
    """
    stop = threading.Event()
    failures: list[RecordingError] = []

    def play() -> None:
        try:
            feed.play(stop)
        except RecordingError as error:
            failures.append(error)

    player = threading.Thread(target=play, name="player")
    player.start()
    try:
        yield
    finally:
        stop.set()
        player.join()
    if failures:
        raise failures[0]


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the JSON object of each line; skip a line that is no JSON object."""
    try:
        with path.open("rb") as file:
            while data := file.readline(_MAX_LINE_BYTES):
                try:
                    line = json.loads(data)
                except (ValueError, RecursionError):
                    continue
                if isinstance(line, dict):
                    yield line
    except OSError as error:
        raise RecordingError(
            path,
            f"can't be read: {error.strerror or os.strerror(5)}. Give a file that `mqtt-monitor "
            "record` wrote.",
        ) from None


def _read_time(line: dict[str, Any]) -> float | None:
    time_s = line.get("time_s")
    # Only times in the years 1970 to 5138 are accepted: much larger numbers would break later
    # computations.
    if isinstance(time_s, int | float) and not isinstance(time_s, bool) and 0 <= time_s < 1e11:  # noqa: PLR2004
        return float(time_s)
    return None


def _read_arrival(line: dict[str, Any], time_s: float) -> Arrival | None:
    topic, text, user = line.get("topic"), line.get("text"), line.get("user", {})
    if not isinstance(topic, str) or not isinstance(user, dict):
        return None
    try:
        if isinstance(text, str):
            payload = text.encode("utf-8", "replace")
        else:
            payload = base64.b64decode(str(line.get("base64", "")), validate=True)
        correlation = bytes.fromhex(str(line.get("correlation", "")))
    except (ValueError, binascii.Error):
        return None
    return Arrival(
        time_s=time_s,
        topic=topic,
        payload=payload,
        retained=line.get("retained") is True,
        correlation_data=correlation,
        user={str(key): value for key, value in user.items() if isinstance(value, str)},
    )
