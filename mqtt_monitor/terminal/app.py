"""The main screen of the terminal view: header, two tables, keys."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual.app import App
from textual.binding import Binding
from textual.containers import Vertical
from textual.widgets import DataTable, Footer

from mqtt_monitor.terminal.board_pane import BoardPane
from mqtt_monitor.terminal.changing_text import ChangingText
from mqtt_monitor.terminal.detail_screen import HELP, DetailScreen
from mqtt_monitor.terminal.details import (
    describe_board,
    describe_deployment,
    describe_news,
    describe_stage,
)
from mqtt_monitor.terminal.header import alert_lines, status_line
from mqtt_monitor.terminal.redraw_schedule import RedrawSchedule
from mqtt_monitor.terminal.stage_pane import StagePane

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.binding import BindingType
    from textual.timer import Timer

    from mqtt_monitor.feeds.feed import Feed
    from mqtt_monitor.terminal.pane import Pane

#: Time between two checks for new messages, in seconds.
_TICK_S = 0.5
#: When the screen's size has not changed for this time, the screen is drawn once more. In seconds.
_SETTLED_S = 0.6
#: Both tables are shown if they have at least this number of lines together. Otherwise only the
#: table with the focus is shown.
_BOTH_FROM = 10


class MonitorApp(App[None]):
    """The application that shows a feed's fleet until the user quits."""

    TITLE = "mqtt-monitor"
    ENABLE_COMMAND_PALETTE = False
    # The terminal's own colours are readable on dark and on light screens. In the selected row,
    # text and background swap their colours, which also works without colours.
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
        """Prepare the screen.

        Args:
            feed: The feed to show, which must stay open while the application runs.
            source: Description of a recording, for the first line; empty: a live feed.
        """
        super().__init__(ansi_color=True)
        self.theme = "ansi-dark"
        self._feed = feed
        self._source = source
        self._fleet = feed.snapshot()
        self._schedule = RedrawSchedule()
        self._status = ChangingText("status")
        self._alerts = ChangingText("alerts")
        self._boards = BoardPane()
        self._stages = StagePane()
        self._watches = False
        self._settling: Timer | None = None
        self._boards_height: int | str = ""

    def compose(self) -> ComposeResult:
        """Yield the screen's parts from top to bottom: status, alerts, two tables, keys."""
        yield self._status
        yield self._alerts
        with Vertical(id="panes"):
            yield self._boards
            yield self._stages
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        """Start the timer that draws the fleet; from now on, quit on SIGTERM and SIGHUP."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            # By default these signals end the process at once, which leaves the terminal unusable.
            loop.add_signal_handler(number, self.exit)
        self._boards.table.focus()
        self.set_interval(_TICK_S, self._tick)
        self.call_after_refresh(self._tick)

    def on_resize(self) -> None:
        """Draw the screen in the new size, and draw it again when the size has stopped changing.

        The second drawing is needed because Textual 8.2 may leave lines of an earlier size on the
        screen while a user drags the window's border.
        """
        self.call_after_refresh(self._draw)
        if self._settling is not None:
            self._settling.stop()
        self._settling = self.set_timer(_SETTLED_S, self._settle)

    def _settle(self) -> None:
        if not self.screen_stack:
            # Textual calls waiting callbacks even after it has closed its screens.
            return
        self._draw()
        self.screen.refresh(layout=True)
        self.call_after_refresh(self.screen.refresh)

    # Drawing

    def _tick(self) -> None:
        seen = self._feed.wait_for_change(self._schedule.seen, 0)
        now_s = time.monotonic()
        if not self._schedule.is_due(seen, now_s):
            return
        began_s = time.thread_time()
        self._fleet = self._feed.snapshot()
        self._draw()
        self._schedule.note_drawn(seen, now_s, time.thread_time() - began_s)

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
        self._status.show(status_line(self._fleet, self._source))
        self._alerts.show(alert_lines(self._fleet, self.size.width, self.size.height))
        self._boards.show(self._fleet)
        self._stages.show(self._fleet)
        self._divide()

    def _divide(self) -> None:
        """Divide the screen's lines between the two tables.

        A table gets more than half of the lines only if the other table needs less than half of the
        lines. On a small screen, only the table with the focus is shown.
        """
        room = self.query_one("#panes").size.height
        both = room >= _BOTH_FROM
        self._boards.display = both or self._pane is self._boards
        self._stages.display = both or self._pane is self._stages
        height = min(
            self._boards.wanted_height,
            max(room // 2 - 1, room - self._stages.wanted_height - 1),
        )
        # One empty line between the tables.
        wanted = height + 1 if both else "1fr"
        if wanted != self._boards_height:
            self._boards_height = self._boards.styles.height = wanted

    # Keys

    @property
    def _pane(self) -> Pane:
        """The pane whose table has the focus."""
        return self._stages if self._stages.table.has_focus else self._boards

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Return whether an action is available now.

        On a detail screen, the actions of the tables and the keys for the help and for the alerts
        are not available.
        """
        del parameters
        tables = {"other_pane", "sort_next", "sort", "reverse", "help", "news"}
        return action not in tables or not isinstance(self.screen, DetailScreen)

    def action_other_pane(self) -> None:
        """Move the focus to the other table."""
        other = self._boards if self._pane is self._stages else self._stages
        other.display = True
        other.table.focus()
        self.call_after_refresh(self._draw)

    def action_sort_next(self) -> None:
        """Sort the table with the focus by its next column."""
        self._pane.sort_by_next()
        self._show_sorted()

    def action_sort(self, index: int) -> None:
        """Sort the table with the focus by column ``index``, counted from 0."""
        self._pane.sort_by(index)
        self._show_sorted()

    def action_reverse(self) -> None:
        """Reverse the sort order of the table with the focus."""
        self._pane.reverse = not self._pane.reverse
        self._show_sorted()

    def _show_sorted(self) -> None:
        # The cursor moves to the top, because the user sorts to see the first rows.
        self._pane.table.move_cursor(row=0)
        self._draw()

    def action_help(self) -> None:
        """Show the help: the keys and the columns."""
        self._open(DetailScreen(lambda _fleet: Text(HELP)))

    def action_news(self) -> None:
        """Show all alerts and events."""
        self._open(DetailScreen(describe_news))

    def on_data_table_header_selected(self, event: DataTable.HeaderSelected) -> None:
        """Sort a table by the column whose header was clicked."""
        event.data_table.focus()
        self.action_sort(event.column_index)

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Show the details of the row that the user selected with Enter or a click."""
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
    """Show a feed's fleet in the terminal until the user quits; return the exit status.

    Args:
        feed: The feed, which must stay open.
        source: Description of a recording, for the first line; empty: a live feed.
    """
    app = MonitorApp(feed, source=source)
    app.run()
    return app.return_code or 0
