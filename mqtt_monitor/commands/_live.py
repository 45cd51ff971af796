"""Opens the live terminal view, for ``mqtt-monitor`` and ``mqtt-monitor replay``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mqtt_monitor.feeds.live import LiveFeed
from mqtt_monitor.feeds.recording import playing
from mqtt_monitor.terminal.app import show_live

if TYPE_CHECKING:
    from pathlib import Path

    from edge_core.mqtt.broker_address import BrokerAddress
    from mqtt_monitor.feeds.recording import ReplayFeed


def show_broker(broker: BrokerAddress, prefix: str) -> int:
    """Connect to a broker and show its fleet until the user quits; return the exit status."""
    with LiveFeed(broker, prefix=prefix) as feed:
        return show_live(feed)


def show_recording(feed: ReplayFeed, file: Path) -> int:
    """Replay a recording and show its fleet until the user quits; return the exit status.

    Args:
        feed: The recording.
        file: The recording's file, whose name is shown.
    """
    with playing(feed):
        return show_live(feed, source=f"recording {file.name}")
