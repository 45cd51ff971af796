"""The terminal front end in a real terminal (tmux), with real boards."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from checkout import CHECKOUT
from desk import PATIENCE_S, wait_until

from edge_partition.boards.deploy_bundle import Deployer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from desk import Desk

    from edge_partition.bundles.bundle import Bundle

BIN = Path(sys.executable).parent
RECORDING = CHECKOUT / "tests" / "mqtt_monitor" / "recordings" / "digits.jsonl"


@dataclass
class Terminal:
    """A shell in its own terminal."""

    socket: Path

    def tmux(self, *words: object) -> str:
        return subprocess.run(
            ["tmux", "-S", self.socket, "-f", "/dev/null", *map(str, words)],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout

    def type(self, *words: object) -> None:
        """Type a command and Enter."""
        self.tmux("send-keys", "-l", shlex.join(map(str, words)))
        self.press("Enter")

    def press(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)

    def resize(self, width: int, height: int) -> None:
        self.tmux("resize-window", "-x", width, "-y", height)

    @property
    def screen(self) -> str:
        return self.tmux("capture-pane", "-p")

    def row(self, name: str) -> list[str]:
        """Return the words of the row that starts with a name; empty: not on the screen."""
        rows = (line.split() for line in self.screen.splitlines())
        return next((words for words in rows if words[:1] == [name]), [])

    def shows_row(self, *words: str) -> None:
        """Wait for a row that starts with these words: a screen may be half drawn."""
        wait_until(lambda: tuple(self.row(words[0])[: len(words)]) == words, f"row {words}")

    def shows(self, *texts: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while any(text not in self.screen for text in texts):
            if time.monotonic() > deadline:
                pytest.fail(f"waited {PATIENCE_S:g} s for {texts} on:\n{self.screen}")
            time.sleep(0.05)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    if shutil.which("tmux") is None:
        if os.environ.get("CI"):
            pytest.fail("tmux must be installed in CI")
        pytest.skip("tmux is not installed")
    terminal = Terminal(tmp_path / "tmux")
    shell = "env PS1='shell> ' bash --norc --noprofile"
    terminal.tmux("new-session", "-d", "-x", 80, "-y", 24, shell)
    try:
        terminal.shows("shell>")
        yield terminal
    finally:
        terminal.tmux("kill-server")


def is_a_usable_shell(terminal: Terminal) -> bool:
    """Return whether the program has restored the terminal."""
    terminal.shows("shell>")
    settings = terminal.tmux(
        "display-message", "-p", "#{alternate_on} #{mouse_any_flag} #{cursor_flag}"
    )
    terminal.press("C-u")
    terminal.type("clear")
    terminal.type("echo", "typed and echoed")
    terminal.shows("shell> echo 'typed and echoed'\ntyped and echoed")
    return settings.strip() == "0 0 1"


def test_an_offline_board_is_shown_in_every_screen_size(
    three_boards: Desk, digits_bundle: Bundle, terminal: Terminal
) -> None:
    desk = three_boards
    with Deployer(desk.url) as deployer:
        deployer.deploy(digits_bundle)
    terminal.type(BIN / "mqtt-monitor", "--broker", desk.url)
    terminal.shows("Boards: 3 online", "digits[0]", "digits[2]", "Deployments: 1")
    terminal.shows_row("board-1", "online")
    terminal.shows_row("digits", "live")
    assert terminal.row("*2") or terminal.row("2"), terminal.screen

    desk.kill_agent("board-1")
    terminal.shows("Board board-1 is offline; deployment digits needs this board.")
    terminal.shows_row("board-1", "offline")
    terminal.shows_row("board-0", "online")
    terminal.shows_row("digits", "broken")

    for width, height in ((40, 12), (20, 5), (132, 43), (80, 24)):
        terminal.resize(width, height)
        terminal.shows("Boards")
        assert max(map(len, terminal.screen.splitlines())) <= width
    terminal.shows(
        "Deployments: 1", "Board board-1 is offline; deployment digits needs this board."
    )
    terminal.shows_row("board-1", "offline")

    desk.start_agent("board-1")
    terminal.shows_row("board-1", "online")
    terminal.press("q")
    assert is_a_usable_shell(terminal)


def test_keys_sort_open_details_and_quit(terminal: Terminal) -> None:
    terminal.type(BIN / "mqtt-monitor", "replay", RECORDING)
    terminal.shows("recording digits.jsonl", "Boards: 3 online", "Deployments: 1")
    terminal.press("5")
    terminal.shows("sorted by mem MiB, largest first")
    boards = [line.split()[0] for line in terminal.screen.splitlines() if "online  " in line]
    assert boards == ["board-1", "board-0", "board-2"]
    terminal.press("Enter")
    terminal.shows("Board board-1", "processor", "of 512 MiB")
    terminal.press("Escape")
    terminal.shows("sorted by mem MiB, largest first")
    terminal.press("Tab", "Down", "Enter")
    terminal.shows("digits stage 0, of 2", "against the plan")
    terminal.press("Escape")
    terminal.shows("Boards:")
    terminal.press("?")
    terminal.shows("sort by a column")
    terminal.press("C-c")
    assert is_a_usable_shell(terminal)


def test_a_lost_connection_is_shown_until_the_reconnection(desk: Desk, terminal: Terminal) -> None:
    desk.start_agent("board-0")
    terminal.type("env", f"EDGE_PARTITION_BROKER={desk.url}", "NO_COLOR=1", BIN / "mqtt-monitor")
    terminal.shows("Boards: 1 online")
    desk.broker.stop()
    terminal.shows("DISCONNECTED since", "Lost the connection to the broker", "board-0")
    desk.broker.start()
    wait_until(lambda: "DISCONNECTED" not in terminal.screen, "the broker again")
    terminal.shows_row("board-0", "online")
    # Bold and reversed text, but no colours.
    drawn = terminal.tmux("capture-pane", "-p", "-e")
    assert "\x1b[" in drawn
    assert not re.search(r"\x1b\[(\d+;)*(3[0-8]|4[0-8]|9[0-7]|10[0-7])[;m]", drawn), drawn
    terminal.press("q")
    assert is_a_usable_shell(terminal)


def test_without_a_terminal_the_fleet_is_printed_once(desk: Desk, terminal: Terminal) -> None:
    desk.start_agent("board-0")
    words = (str(BIN / "mqtt-monitor"), "--broker", desk.url)
    terminal.tmux("send-keys", "-l", f"{shlex.join(words)} | cat; echo ended $?")
    terminal.press("Enter")
    terminal.shows("board-0", "No deployments yet", "ended 0")


def test_a_terminated_monitor_restores_the_terminal(terminal: Terminal) -> None:
    terminal.type(BIN / "mqtt-monitor", "replay", RECORDING)
    terminal.shows("Boards: 3 online")
    shell = terminal.tmux("display-message", "-p", "#{pane_pid}").strip()
    children = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
    os.kill(int(children[0]), 15)
    assert is_a_usable_shell(terminal)
