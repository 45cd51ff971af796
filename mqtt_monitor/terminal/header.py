"""The lines above the tables: the broker and the time, then the first alerts. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from mqtt_monitor.fleet.alerts import find_alerts
from mqtt_monitor.terminal.columns import BAD
from mqtt_monitor.terminal.details import alert_line, clock
from mqtt_monitor.terminal.shorten import shorten

if TYPE_CHECKING:
    from mqtt_monitor.fleet.snapshot import Fleet

#: A screen with fewer lines than this shows only one alert.
_SHORT = 16
_ALERT_LINES = 4


def status_line(fleet: Fleet, source: str) -> Text:
    """Return the first line: the source of the values, whether the connection is lost, the time.

    Args:
        fleet: The snapshot.
        source: Description of a recording; empty: the source is the broker, whose URL is shown.
    """
    broker = fleet.broker
    text = Text(f" {source or broker.url}", no_wrap=True, overflow="ellipsis")
    if not broker.connected:
        text.append(f"  DISCONNECTED since {clock(broker.since_s)}", BAD)
    text.append(f"  {clock(fleet.at_s)}")
    return text


def alert_lines(fleet: Fleet, width: int, height: int) -> Text:
    """Return the first alerts, one on each line, and the number of further alerts.

    Args:
        fleet: The snapshot.
        width: Width of the screen, in characters.
        height: Height of the screen, in lines.
    """
    alerts = find_alerts(fleet)
    room = 1 if height < _SHORT else _ALERT_LINES
    shown = alerts if len(alerts) <= room else alerts[: max(1, room - 1)]
    more = len(alerts) - len(shown)
    lines = [alert_line(alert) for alert in shown] or [Text("No alerts.")]
    if more and room > 1:
        lines.append(Text(f"... and {more:,} more: press a."))
    elif more:
        lines[0] = Text(f"+{more} (a) ") + lines[0]
    if len(lines) > 1 or room == 1:
        # Several alerts get one line each. A single alert may have several lines.
        lines = [shorten(line, width) for line in lines]
    return Text("\n").join(lines)
