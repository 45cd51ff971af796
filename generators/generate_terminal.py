"""Write docs/monitoring/terminal.svg: the screen of ``mqtt-monitor`` with an offline board.

    python generators/generate_terminal.py

The script replays tests/mqtt_monitor/recordings/digits.jsonl up to the first offline board.
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
    """Return the recording up to and including the first ``offline`` message."""
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
    # Without the font URLs: a reader's browser sends no request to another host.
    start, end = drawing.index("@font-face"), drawing.index(".terminal-")
    DRAWING.write_text(drawing[:start] + drawing[end:])


if __name__ == "__main__":
    main()
