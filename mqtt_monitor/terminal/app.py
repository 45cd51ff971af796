"""The terminal's screens and keys."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual.app import App
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.screen import Screen
from textual.widgets import DataTable, Footer, Static

from mqtt_monitor.fleet.alerts import find_alerts
from mqtt_monitor.terminal import board_rows, stage_rows
from mqtt_monitor.terminal.columns import BAD, arranged
from mqtt_monitor.terminal.details import (
    alert_line,
    clock,
    describe_board,
    describe_deployment,
    describe_news,
    describe_stage,
)
from mqtt_monitor.terminal.pane import Pane

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.app import ComposeResult
    from textual.binding import BindingType
    from textual.timer import Timer

    from mqtt_monitor.feeds.feed import Feed
    from mqtt_monitor.fleet.snapshot import Fleet
    from mqtt_monitor.terminal.columns import Cell

_TICK_S = 0.5
#: Without a message, what is shown is looked at again so often: statistics grow old.
_QUIET_S = 2.0
#: Of a core, what making rows of a large fleet may take: such a fleet is drawn less often.
_SHARE = 0.05
#: After the last change of size.
_SETTLED_S = 0.6
_ALERT_LINES = 4
#: With fewer lines for both tables only the one in use is shown.
_BOTH_FROM = 10
_SHORT = 16

_HELP = """\
enter     a board's, deployment's or stage's detail
tab       to the other table
up, down, page up, page down, home, end     move
left, right     more columns
1 to 9    sort by that column; again: the other way round
s, r      sort by the next column; the other way round
a         all alerts and events
escape    back
q         quit

Boards
CPU %     of one core: 200 is two cores
MiB       what the agent takes, and of how much it may;
          ! is within a tenth of that
in, out   tensors over the board's link, without MQTT's headers
waiting   requests on the board, of all stages
silent    online, but its statistics stopped
-         not told, or too long ago

Deployments
invoke, planned, queue   ms a request: measured, planned, waiting
kB/s      what a stage sends on
*         the stage that sets the pace
serves    every board of a stage serves it; "1 of 2": not all;
          "down": none

The monitor listens and publishes nothing.
"""


class DetailScreen(Screen[None]):
    """A text that follows the fleet."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,backspace", "dismiss", "Back"),
    ]

    def __init__(self, describe: Callable[[Fleet], Text], *, requests: bool = False) -> None:
        super().__init__()
        self._describe = describe
        self._body = Static()
        self._shown: Text | None = None
        self.requests = requests

    def compose(self) -> ComposeResult:
        """Text over keys."""
        with VerticalScroll():
            yield self._body
        yield Footer(compact=True, show_command_palette=False)

    def show(self, fleet: Fleet) -> None:
        """Show the text as it is now."""
        text = self._describe(fleet)
        before = self._shown
        if before is None or (text.plain, text.spans) != (before.plain, before.spans):
            self._shown = text
            self._body.update(text)


class MonitorApp(App[None]):
    """The fleet, live."""

    TITLE = "mqtt-monitor"
    ENABLE_COMMAND_PALETTE = False
    # The terminal's own colours, so that it is readable on dark and light alike; what is chosen is
    # reversed, which needs no colour.
    CSS = """
    Screen, DetailScreen { background: ansi_default; color: ansi_default; }
    #status { height: 1; text-style: reverse; }
    #alerts { height: auto; }
    #panes { height: 1fr; }
    Pane { height: 1fr; }
    .title { height: 1; text-style: bold; }
    LiveTable {
        height: 1fr; background: ansi_default; color: ansi_default;
        scrollbar-size-horizontal: 0; scrollbar-size-vertical: 1;
        scrollbar-color: ansi_blue; scrollbar-background: ansi_default;
        scrollbar-color-hover: ansi_blue; scrollbar-color-active: ansi_blue;
        scrollbar-background-hover: ansi_default; scrollbar-background-active: ansi_default;
    }
    LiveTable > .datatable--header, LiveTable:focus > .datatable--header,
    LiveTable > .datatable--header-hover {
        background: ansi_default; color: ansi_default; text-style: underline;
    }
    LiveTable > .datatable--fixed, LiveTable > .datatable--odd-row,
    LiveTable > .datatable--even-row, LiveTable > .datatable--hover,
    LiveTable > .datatable--cursor, LiveTable > .datatable--fixed-cursor,
    LiveTable > .datatable--header-cursor {
        background: ansi_default; color: ansi_default; text-style: none;
    }
    LiveTable:focus > .datatable--cursor, LiveTable:focus > .datatable--fixed-cursor {
        background: ansi_default; color: ansi_default; text-style: reverse;
    }
    Pane:focus-within .title { text-style: bold reverse; }
    DetailScreen VerticalScroll { scrollbar-size-vertical: 1; }
    DetailScreen Static { height: auto; }
    Footer, FooterKey, FooterKey .footer-key--key, FooterKey .footer-key--description {
        background: ansi_default; color: ansi_default;
    }
    FooterKey .footer-key--key { text-style: bold; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", show=False, priority=True),
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("tab,shift+tab", "other_pane", "Table", priority=True),
        Binding("s", "sort_next", "Sort"),
        Binding("r", "reverse", "Reverse"),
        Binding("a", "news", "Alerts"),
        *(Binding(str(key), f"sort({key - 1})", show=False) for key in range(1, 10)),
    ]

    def __init__(self, feed: Feed, *, source: str = "") -> None:
        """Prepare.

        Args:
            feed: Must stay open while this runs.
            source: What the feed is, for the first line, where it is no broker.
        """
        super().__init__(ansi_color=True)
        self.theme = "ansi-dark"
        self._feed = feed
        self._source = source
        self._fleet = feed.snapshot()
        self._seen = -1
        self._drawn_s = self._cost_s = 0.0
        self._cells: dict[str, tuple[board_rows.BoardRow, tuple[Cell, ...]]] = {}
        self._status = Static(id="status")
        self._alerts = Static(id="alerts")
        self._told: dict[Static, Text] = {}
        self._boards = Pane(board_rows.COLUMNS, "boards")
        self._stages = Pane(stage_rows.COLUMNS, "deployments")
        self._watches = False
        self._settling: Timer | None = None
        self._boards_height: int | str = ""

    def compose(self) -> ComposeResult:
        """First line, alerts, boards, deployments, keys."""
        yield self._status
        yield self._alerts
        with Vertical(id="panes"):
            yield self._boards
            yield self._stages
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        """Begin to follow the feed."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            # The default action would leave the terminal as it is now.
            loop.add_signal_handler(number, self.exit)
        self._boards.table.focus()
        self.set_interval(_TICK_S, self._tick)
        self.call_after_refresh(self._tick)

    def on_resize(self) -> None:
        """Divide the lines anew, and once more when the size has settled.

        Where sizes follow each other fast (a window dragged), Textual 8.2 can end with an older
        size's lines on the screen.
        """
        self.call_after_refresh(self._draw)
        if self._settling is not None:
            self._settling.stop()
        self._settling = self.set_timer(_SETTLED_S, self._settle)

    def _settle(self) -> None:
        if not self.screen_stack:
            # Textual runs callbacks that wait once more after it has closed its screens.
            return
        self._draw()
        self.screen.refresh(layout=True)
        self.call_after_refresh(self.screen.refresh)

    # What is shown

    def _tick(self) -> None:
        seen, now_s = self._feed.wait_for_change(self._seen, 0), time.monotonic()
        since_s = now_s - self._drawn_s
        if since_s < (_QUIET_S if seen == self._seen else self._cost_s / _SHARE):
            return
        began_s = time.thread_time()
        self._seen, self._drawn_s = seen, now_s
        self._fleet = self._feed.snapshot()
        self._draw()
        self._cost_s = time.thread_time() - began_s

    def _draw(self) -> None:
        if not self.screen_stack:
            return
        screen = self.screen
        wanted = isinstance(screen, DetailScreen) and screen.requests
        if wanted != self._watches:
            self._watches = wanted
            self._feed.watch_requests(wanted)
        if isinstance(screen, DetailScreen):
            screen.show(self._fleet)
            return
        self._draw_status()
        self._draw_alerts()
        self._draw_boards()
        self._draw_stages()
        self._divide()

    def _draw_status(self) -> None:
        fleet, broker = self._fleet, self._fleet.broker
        where = f"{self._source or broker.url}"
        text = Text(f" {where}", no_wrap=True, overflow="ellipsis")
        if not broker.connected:
            text.append(f"  AWAY since {clock(broker.since_s)}", BAD)
        text.append(f"  {clock(fleet.at_s)}")
        self._update(self._status, text)

    def _draw_alerts(self) -> None:
        alerts = find_alerts(self._fleet)
        room = 1 if self.size.height < _SHORT else _ALERT_LINES
        shown = alerts if len(alerts) <= room else alerts[: max(1, room - 1)]
        more = len(alerts) - len(shown)
        lines = [alert_line(alert) for alert in shown] or [Text("No alerts.")]
        if more and room > 1:
            lines.append(Text(f"... and {more:,} more: press a."))
        elif more:
            lines[0] = Text(f"+{more} (a) ") + lines[0]
        if len(lines) > 1 or room == 1:
            # One to a line; a lone one may take several.
            for line in lines:
                line.truncate(max(1, self.size.width), overflow="ellipsis")
        self._update(self._alerts, Text("\n").join(lines))

    def _update(self, widget: Static, text: Text) -> None:
        """Write a text where it is another."""
        before = self._told.get(widget)
        if before is None or (before.plain, before.spans) != (text.plain, text.spans):
            self._told[widget] = text
            widget.update(text)

    def _draw_boards(self) -> None:
        rows = board_rows.board_rows(self._fleet)
        cells: dict[str, tuple[board_rows.BoardRow, tuple[Cell, ...]]] = {}
        counts: dict[str, int] = {}
        for row in rows:
            name = row.device.name
            before = self._cells.get(name)
            # A board that told nothing new is the same object: its cells are, too.
            same = before is not None and (
                before[0].device is row.device
                and before[0].in_bytes_per_s == row.in_bytes_per_s
                and before[0].out_bytes_per_s == row.out_bytes_per_s
            )
            cells[name] = before if before and same else (row, board_rows.board_cells(row))
            counts[row.state] = counts.get(row.state, 0) + 1
        self._cells = cells
        told = ", ".join(f"{count:,} {state}" for state, count in sorted(counts.items()))
        pane = self._boards
        pane.show(
            f"Boards: {told}" if rows else "Boards: none yet; start `device-agent` on one",
            [
                (row.device.name, cells[row.device.name][1])
                for row in arranged(rows, pane.column, reverse=pane.reverse)
            ],
        )

    def _draw_stages(self) -> None:
        pane, count = self._stages, len(self._fleet.deployments)
        rows = stage_rows.stage_rows(self._fleet, pane.column, reverse=pane.reverse)
        summary = f"Deployments: {count:,}; ms a request" if count else "Deployments: none"
        pane.show(summary, [(row.key, stage_rows.stage_cells(row)) for row in rows])

    def _divide(self) -> None:
        """Give each table the lines it needs, or half; where lines are few, the one in use all."""
        room = self.query_one("#panes").size.height
        focused = self._stages if self._stages.table.has_focus else self._boards
        both = room >= _BOTH_FROM
        self._boards.display = both or focused is self._boards
        self._stages.display = both or focused is self._stages
        height = min(
            self._boards.wanted_height,
            max(room // 2 - 1, room - self._stages.wanted_height - 1),
        )
        # A line of air between the tables.
        wanted = height + 1 if both else "1fr"
        if wanted != self._boards_height:
            self._boards_height = self._boards.styles.height = wanted

    # Keys

    @property
    def _pane(self) -> Pane:
        return self._stages if self._stages.table.has_focus else self._boards

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Return whether a key means something here: most do on the tables alone."""
        del parameters
        tables = {"other_pane", "sort_next", "sort", "reverse", "help", "news"}
        return action not in tables or not isinstance(self.screen, DetailScreen)

    def action_other_pane(self) -> None:
        """Go to the other table."""
        other = self._boards if self._pane is self._stages else self._stages
        other.display = True
        other.table.focus()
        self.call_after_refresh(self._draw)

    def action_sort_next(self) -> None:
        """Sort by the next column."""
        self._pane.sort_by_next()
        self._show_sorted()

    def action_sort(self, index: int) -> None:
        """Sort by a column."""
        self._pane.sort_by(index)
        self._show_sorted()

    def action_reverse(self) -> None:
        """Sort the other way round."""
        self._pane.reverse = not self._pane.reverse
        self._show_sorted()

    def _show_sorted(self) -> None:
        # What a table is sorted for stands at its top.
        self._pane.table.move_cursor(row=0)
        self._draw()

    def action_help(self) -> None:
        """Tell the keys and what the columns mean."""
        self._open(DetailScreen(lambda _fleet: Text(_HELP)))

    def action_news(self) -> None:
        """Tell all alerts and events."""
        self._open(DetailScreen(describe_news))

    def on_data_table_header_selected(self, event: DataTable.HeaderSelected) -> None:
        """Sort by the column whose heading was clicked."""
        event.data_table.focus()
        self.action_sort(event.column_index)

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Open a row's detail."""
        pane = self._boards if event.data_table is self._boards.table else self._stages
        key, feed = pane.table.selected, self._feed
        if key is None:
            return
        if pane is self._boards:
            self._open(DetailScreen(lambda fleet: describe_board(feed, fleet, key)))
            return
        name, _, index = key.partition("/")
        if index:
            self._open(DetailScreen(lambda fleet: describe_stage(feed, fleet, name, int(index))))
        else:
            screen = DetailScreen(lambda fleet: describe_deployment(fleet, name), requests=True)
            self._open(screen)

    def _open(self, screen: DetailScreen) -> None:
        def closed(_: None) -> None:
            self.call_after_refresh(self._draw)

        self.push_screen(screen, closed)
        self.call_after_refresh(self._draw)


def show_live(feed: Feed, *, source: str = "") -> int:
    """Show a feed until somebody quits; return the exit status."""
    app = MonitorApp(feed, source=source)
    app.run()
    return app.return_code or 0
