"""Plain ``mqtt-monitor`` and ``replay`` where somebody watches: the live terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mqtt_monitor.feeds.live import LiveFeed
from mqtt_monitor.feeds.recording import playing
from mqtt_monitor.terminal.app import show_live

if TYPE_CHECKING:
    from pathlib import Path

    from mqtt_monitor.feeds.recording import ReplayFeed


def show_broker(broker: str, prefix: str) -> int:
    """Show the fleet at a broker until somebody quits; return the exit status."""
    with LiveFeed(broker, prefix=prefix) as feed:
        return show_live(feed)


def show_recording(feed: ReplayFeed, file: Path) -> int:
    """Play a recording and show it until somebody quits; return the exit status."""
    with playing(feed):
        return show_live(feed, source=f"recording {file.name}")
