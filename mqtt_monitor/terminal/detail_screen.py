"""The screens that cover the tables: a board, a deployment, a stage, all alerts, the help."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import Footer

from mqtt_monitor.terminal.changing_text import ChangingText

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.text import Text
    from textual.app import ComposeResult
    from textual.binding import BindingType

    from mqtt_monitor.fleet.snapshot import Fleet

HELP = """\
enter     details of a board, deployment or stage
tab       the other table
up, down, page up, page down, home, end     move
left, right     scroll to more columns
1 to 9    sort by a column; the same key again: reverse the order
s, r      sort by the next column; reverse the order
a         all alerts and events
escape    back
q         quit

Boards
state     silent: online, but without recent statistics
CPU %     of one core: 200 means two full cores
°C        ! means that the processor is throttled
mem MiB   memory of the agent / its limit; ! means near the limit
in kB/s, out kB/s   tensors that the board receives and sends, without MQTT headers
queue     requests that wait on the board
stages    the stages that the board serves: deployment[stage]
-         the value is not reported, or too old

Deployments
stage     * marks the bottleneck, the slowest stage
state     serves: all boards serve the stage; 1 of 2: one board is missing;
          down: no board serves the stage
infer ms, plan ms   time of one inference, measured and planned
wait ms   time that a request waits on the board
kB/s      tensors that the stage sends

The monitor only reads messages. It publishes nothing.
"""


class DetailScreen(Screen[None]):
    """A screen with a text, such as the details of a board.

    Attributes:
        requests: Whether the text shows recent requests. If True, the feed must watch requests.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,backspace", "dismiss", "Back"),
    ]

    def __init__(self, describe: Callable[[Fleet], Text], *, requests: bool = False) -> None:
        """Create the screen.

        Args:
            describe: A function that returns the text for a snapshot.
            requests: Whether the text shows recent requests.
        """
        super().__init__()
        self._describe = describe
        self._body = ChangingText()
        self.requests = requests

    def compose(self) -> ComposeResult:
        """Yield the text and the line of keys."""
        with VerticalScroll():
            yield self._body
        yield Footer(compact=True, show_command_palette=False)

    def show(self, fleet: Fleet) -> None:
        """Show the text for a new snapshot."""
        self._body.show(self._describe(fleet))
