"""Draw docs/monitoring/terminal.svg: ``mqtt-monitor`` while a board is away.

    python generators/generate_terminal.py

It plays tests/mqtt_monitor/recordings/digits.jsonl up to there.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from pathlib import Path

from mqtt_monitor.feeds.recording import ReplayFeed
from mqtt_monitor.terminal.app import MonitorApp

ROOT = Path(__file__).parents[1]
RECORDING = ROOT / "tests" / "mqtt_monitor" / "recordings" / "digits.jsonl"
DRAWING = ROOT / "docs" / "monitoring" / "terminal.svg"


def until_a_board_is_gone() -> str:
    """Return the recording up to the statistics that follow a board's end."""
    lines = RECORDING.read_text().splitlines()
    gone = next(i for i, line in enumerate(lines) if json.loads(line).get("text") == "offline")
    return "\n".join(lines[: gone + 1])


async def draw(feed: ReplayFeed) -> str:
    """Return the screen as SVG."""
    app = MonitorApp(feed)
    async with app.run_test(size=(80, 20)) as pilot:
        await pilot.pause(1)
        return app.export_screenshot(title="mqtt-monitor")


def main() -> None:
    """Write the drawing."""
    os.environ["TZ"] = "UTC"
    time.tzset()
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.write(until_a_board_is_gone())
        file.flush()
        feed = ReplayFeed(Path(file.name))
        feed.play()
        drawing = asyncio.run(draw(feed))
    # Fonts come from the reader's machine: a page that is opened asks no other host.
    start, end = drawing.index("@font-face"), drawing.index(".terminal-")
    DRAWING.write_text(drawing[:start] + drawing[end:])


if __name__ == "__main__":
    main()
