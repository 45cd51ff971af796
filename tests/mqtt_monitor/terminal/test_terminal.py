"""The terminal: rows and details as values, screens with Textual's pilot."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest
from checkout import CHECKOUT
from fleet_messages import (
    START_S,
    ToldFeed,
    availability,
    manifest,
    profile,
    stage,
    stats,
)
from rich.text import Text

from mqtt_monitor.feeds.recording import ReplayFeed
from mqtt_monitor.terminal import board_rows, stage_rows
from mqtt_monitor.terminal.app import MonitorApp
from mqtt_monitor.terminal.columns import Column, fit_widths, sort_rows
from mqtt_monitor.terminal.details import describe_board, describe_deployment, describe_stage
from mqtt_monitor.terminal.shorten import shorten

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from textual.pilot import Pilot

    from mqtt_monitor.feeds.feed import Feed

RECORDING = CHECKOUT / "tests" / "mqtt_monitor" / "recordings" / "digits.jsonl"
MIB = 1024 * 1024


def two_boards(**fields: Any) -> ToldFeed:
    """pi-1 runs net[0], pi-2 net[1]; 100 requests in the newest 5 s."""
    feed = ToldFeed(
        manifest(0, ["pi-1"], ["pi-2"]),
        availability(0, "pi-1", b"online", retained=True),
        availability(0, "pi-2", b"online", retained=True),
        profile(0, "pi-1", ram_mib=128, cpu_model="Cortex-A72"),
        profile(0, "pi-2"),
    )
    for sequence in (1, 2):
        at_s = 5.0 * sequence
        feed.tell(
            stats(at_s, "pi-1", sequence, stage(0, 100 * sequence), **fields),
            stats(at_s, "pi-2", sequence, stage(1, 100 * sequence, mean_ms=20.0), cpu_percent=90.0),
        )
    return feed


def cells_of_board(feed: Feed, name: str) -> dict[str, str]:
    row = next(r for r in board_rows.board_rows(feed.snapshot()) if r.device.name == name)
    titles = [column.title for column in board_rows.COLUMNS]
    return dict(zip(titles, (text for text, _ in board_rows.board_cells(row)), strict=True))


def cells_of_stages(feed: Feed) -> list[dict[str, str]]:
    rows = stage_rows.stage_rows(feed.snapshot(), stage_rows.COLUMNS[0], reverse=False)
    titles = [column.title for column in stage_rows.COLUMNS]
    return [
        dict(zip(titles, (text for text, _ in stage_rows.stage_cells(row)), strict=True))
        for row in rows
    ]


def drive(
    feed: Feed,
    steps: Callable[[MonitorApp, Pilot[None]], Awaitable[None]],
    size: tuple[int, int] = (80, 24),
) -> None:
    async def run() -> None:
        app = MonitorApp(feed)
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await steps(app, pilot)

    asyncio.run(run())


async def seen(app: MonitorApp, pilot: Pilot[None]) -> str:
    """Draw the newest snapshot; return the text on the screen."""
    app._schedule.reset()
    app._tick()
    for _ in range(3):
        await pilot.pause()
    return "\n".join(strip.text for strip in app.screen._compositor.render_strips())


# Rows


def test_a_boards_row_has_load_memory_limit_and_traffic() -> None:
    cells = cells_of_board(two_boards(rss_bytes=64 * MIB, queue_length=3), "pi-1")
    assert cells["state"] == "online"
    assert cells["CPU %"] == "50"
    assert cells["°C"] == "55"
    assert cells["mem MiB"] == "64/128"
    # 20 requests a second of 64 floats.
    assert (cells["in kB/s"], cells["out kB/s"]) == ("5.1", "5.1")
    assert cells["queue"] == "3"
    assert cells["stages"] == "net[0]"


def test_problems_of_a_board_are_marked_in_its_row() -> None:
    feed = two_boards(throttled=True, rss_bytes=120 * MIB)
    cells = cells_of_board(feed, "pi-1")
    assert cells["°C"] == "55!"
    assert cells["mem MiB"] == "120/128!"
    feed.time_s += 60
    assert cells_of_board(feed, "pi-1")["state"] == "silent"
    assert cells_of_board(feed, "pi-1")["CPU %"] == "-"
    feed.tell(availability(70, "pi-1", b"offline"))
    assert cells_of_board(feed, "pi-1")["state"] == "offline"


def test_a_board_without_statistics_has_a_row() -> None:
    cells = cells_of_board(ToldFeed(availability(0, "pi-9", b"online", retained=True)), "pi-9")
    assert cells.pop("board") == "pi-9"
    assert cells.pop("state") == "online"
    assert set(cells.values()) == {"-"}


def test_stages_follow_their_deployment_in_order() -> None:
    whole, first, second = cells_of_stages(two_boards())
    assert (whole["stage"], whole["state"], whole["boards"]) == ("net", "live", "model Net")
    assert whole["req/s"] == "20.0"
    assert (first["stage"].strip(), first["boards"], first["infer ms"]) == ("0", "pi-1", "10.00")
    assert (second["stage"].strip(), second["boards"], second["infer ms"]) == (
        "*1",
        "pi-2",
        "20.00",
    )
    assert (first["plan ms"], first["wait ms"], first["kB/s"]) == ("10.00", "1.00", "5.1")
    assert {row["errors"] for row in (whole, first, second)} == {"0"}


def test_the_state_of_a_stage_counts_its_serving_boards() -> None:
    feed = ToldFeed(manifest(0, ["a", "b"]), availability(0, "a", b"online", retained=True))
    feed.tell(availability(0, "b", b"online", retained=True))
    assert cells_of_stages(feed)[1]["state"] == "-"
    feed.tell(stats(5, "a", 1, stage(0, 1)), stats(5, "b", 1, stage(0, 1)))
    assert cells_of_stages(feed)[1]["state"] == "serves"
    feed.tell(availability(6, "b", b"offline"))
    assert cells_of_stages(feed)[1]["state"] == "1 of 2"
    feed.tell(availability(6, "a", b"offline"))
    assert cells_of_stages(feed)[1]["state"] == "down"


def test_unknown_values_come_last_in_both_orders() -> None:
    column = Column[float | None]("figure", lambda item: item)
    assert sort_rows([1.0, None, 3.0], column, reverse=False) == [3.0, 1.0, None]
    assert sort_rows([1.0, None, 3.0], column, reverse=True) == [1.0, 3.0, None]


def test_names_make_room_for_numbers() -> None:
    # Between first and last: 10 + 5 characters. Each column has two spaces beside it.
    assert fit_widths([8, 10, 5, 9], last_title=6, available=80) == [8, 10, 5, 9]
    assert fit_widths([8, 10, 5, 90], last_title=6, available=80) == [8, 10, 5, 49]
    # The names keep their width while the numbers fit; the last column scrolls.
    assert fit_widths([40, 10, 5, 90], last_title=6, available=61) == [40, 10, 5, 6]
    assert fit_widths([40, 10, 5, 90], last_title=6, available=51) == [30, 10, 5, 6]
    assert fit_widths([40, 10, 5, 90], last_title=6, available=20) == [12, 10, 5, 6]


def test_texts_are_shortened_between_words() -> None:
    text = Text("the plan says 48 MiB, not 4")
    assert shorten(text, 27).plain == "the plan says 48 MiB, not 4"
    assert shorten(text, 26).plain == "the plan says 48 MiB, …"
    assert shorten(text, 17).plain == "the plan says …"
    assert shorten(Text("a-board"), 4).plain == "a-b…"
    for width in range(1, 30):
        assert len(shorten(text, width).plain) <= width


def test_every_column_sorts_incomplete_values() -> None:
    feed = ToldFeed(availability(0, "pi-9", b"online", retained=True), manifest(0, ["x"], name="o"))
    feed.tell(*(profile(0, name) for name in ("pi-3", "pi-4")), stats(5, "pi-4", 1, stage(0, 1)))
    fleet = feed.snapshot()
    for board_column in board_rows.COLUMNS:
        rows = sort_rows(board_rows.board_rows(fleet), board_column, reverse=False)
        assert {row.device.name for row in rows} == {"pi-9", "pi-3", "pi-4"}
    for stage_column in stage_rows.COLUMNS:
        assert [row.key for row in stage_rows.stage_rows(fleet, stage_column, reverse=True)] == [
            "o",
            "o/0",
        ]


# Details


def test_details_have_more_values_than_rows() -> None:
    feed = two_boards(throttled=True)
    fleet = feed.snapshot()
    board = describe_board(feed, fleet, "pi-1").plain
    for words in ("Cortex-A72", "throttled", "of 128 MiB", "net stage 0", "max 50"):
        assert words in board
    described = describe_stage(feed, fleet, "net", 1).plain
    for words in ("(bottleneck)", "+100% against the plan", "t1 float32[1, 64]", "pi-2: online"):
        assert words in described
    assert "is no longer" in describe_stage(feed, fleet, "net", 7).plain
    assert "is no longer" in describe_board(feed, fleet, "nobody").plain


def test_the_details_of_a_stage_list_layers_and_wrapped_constants() -> None:
    told = manifest(0, ["pi-1"])
    document = json.loads(told.payload)
    document["stages"][0] |= {
        "layers": ["conv", "conv__add_1", "[bold]gate"],
        "more_layers": 1500,
        "wrapped": [{"name": "conv__add_1", "operation": "keras.Add", "constants": ["x2=3.0"]}],
    }
    feed = ToldFeed(dataclasses.replace(told, payload=json.dumps(document).encode()))
    described = describe_stage(feed, feed.snapshot(), "net", 0).plain
    expected = "\nLayers\nconv\nconv__add_1: Add(x2=3.0)\n[bold]gate\nand 1,500 more\n"
    assert expected in described
    old = ToldFeed(manifest(0, ["pi-1"]))
    assert "Layers" not in describe_stage(old, old.snapshot(), "net", 0).plain


def test_the_details_of_a_board_have_link_and_refusals() -> None:
    def link(received: int) -> dict[str, Any]:
        return {
            "interface": "wlan0", "speed_mbit_s": 72, "signal_dbm": -61.4,
            "received_bytes": received, "sent_bytes": 0,
        }  # fmt: skip

    refused = {
        "deployment": "net", "generation": "g2", "code": "no-memory", "reason": "Too little.",
        "time_s": START_S + 5,
    }  # fmt: skip
    feed = ToldFeed(
        stats(5, "pi-1", 1, link=link(0)),
        stats(10, "pi-1", 2, link=link(60_000), refusals=[refused]),
    )
    described = describe_board(feed, feed.snapshot(), "pi-1").plain
    link_line = "wlan0, 72 Mbit/s, signal -61 dBm; 12 kB/s in, 0 kB/s out, all programs"
    assert link_line in described
    assert "net, generation g2\n  Too little. (no-memory)\n" in described
    old = ToldFeed(stats(5, "pi-1", 1))
    described = describe_board(old, old.snapshot(), "pi-1").plain
    assert "link  " not in described
    assert "Refused" not in described


def test_the_details_of_a_deployment_split_recent_requests() -> None:
    feed = ReplayFeed(RECORDING)
    feed.play()
    fleet = feed.snapshot()
    text = describe_deployment(fleet, "digits").plain
    request = [r for r in fleet.requests if r.deployment == "digits" and r.latency_ms][-1]
    assert request.latency_ms is not None
    assert f"{request.latency_ms:,.1f} ms:" in text
    assert f"rest {request.latency_ms - request.stages_ms:,.1f}" in text


# Screens


def test_an_offline_board_changes_its_row_and_is_an_alert() -> None:
    feed = two_boards()

    async def steps(app: MonitorApp, pilot: Pilot[None]) -> None:
        before = await seen(app, pilot)
        assert "offline" not in before
        feed.tell(availability(12, "pi-2", b"offline"))
        after = await seen(app, pilot)
        lines = after.splitlines()
        assert "Board pi-2 is offline; deployment net needs this board." in lines[1]
        assert any(line.split()[:2] == ["pi-2", "offline"] for line in lines)
        assert any(line.split()[:2] == ["pi-1", "online"] for line in lines)
        assert any(line.split()[:2] == ["net", "broken"] for line in lines)

    drive(feed, steps)


def test_keys_sort_and_the_cursor_follows_its_board() -> None:
    feed = two_boards()

    async def steps(app: MonitorApp, pilot: Pilot[None]) -> None:
        def order(text: str) -> list[str]:
            words = [line.split()[0] for line in text.splitlines() if line.split()]
            return [word for word in words if word.startswith("pi-")]

        assert order(await seen(app, pilot)) == ["pi-1", "pi-2"]
        await pilot.press("3")
        text = await seen(app, pilot)
        assert "sorted by CPU %, largest first" in text
        assert order(text) == ["pi-2", "pi-1"]
        assert app._boards.table.selected == "pi-2"
        await pilot.press("down")
        assert app._boards.table.selected == "pi-1"
        feed.tell(availability(11, "pi-0", b"online"), stats(12, "pi-0", 1, cpu_percent=70.0))
        assert order(await seen(app, pilot)) == ["pi-2", "pi-0", "pi-1"]
        assert app._boards.table.selected == "pi-1"
        feed.tell(availability(12, "pi-0", b""))
        await pilot.press("3")
        assert order(await seen(app, pilot)) == ["pi-1", "pi-2"]
        await pilot.press("s")
        assert "sorted by °C, largest first" in await seen(app, pilot)
        await pilot.press("r")
        assert "sorted by °C, smallest first" in await seen(app, pilot)

    drive(feed, steps)


def test_details_open_follow_the_fleet_and_close() -> None:
    feed = two_boards()

    async def steps(app: MonitorApp, pilot: Pilot[None]) -> None:
        await seen(app, pilot)
        await pilot.press("enter")
        assert "Board pi-1" in await seen(app, pilot)
        feed.tell(availability(12, "pi-1", b"offline"))
        assert "offline since" in await seen(app, pilot)
        await pilot.press("escape", "tab", "down", "enter")
        assert "net stage 0, of 2" in await seen(app, pilot)
        await pilot.press("escape", "up", "enter")
        assert "Deployment net" in await seen(app, pilot)
        await pilot.press("escape", "question_mark")
        assert "sort by a column" in await seen(app, pilot)
        await pilot.press("escape", "a")
        assert "Events, newest first" in await seen(app, pilot)
        await pilot.press("escape")
        assert "Boards: 1 offline, 1 online" in await seen(app, pilot)

    drive(feed, steps)


def test_a_lost_connection_is_shown_until_the_reconnection() -> None:
    feed = two_boards()

    async def steps(app: MonitorApp, pilot: Pilot[None]) -> None:
        feed.lose_broker()
        away = await seen(app, pilot)
        assert "DISCONNECTED since" in away
        assert "Lost the connection to the broker at mqtt://hub:1883: connection" in away
        feed.find_broker()
        assert "disconnected" not in (await seen(app, pilot)).lower()

    drive(feed, steps, size=(140, 24))


@pytest.mark.parametrize("size", [(140, 50), (80, 24), (40, 12), (20, 5)])
def test_every_screen_size_shows_boards(size: tuple[int, int]) -> None:
    feed = two_boards(throttled=True)

    async def steps(app: MonitorApp, pilot: Pilot[None]) -> None:
        text = await seen(app, pilot)
        assert "Boards" in text
        await pilot.press("tab")
        assert "Deployments" in await seen(app, pilot)
        for width, height in ((40, 12), (10, 3), (80, 24)):
            await pilot.resize_terminal(width, height)
            text = await seen(app, pilot)
            assert all(len(line) <= width for line in text.splitlines())
        assert "pi-1" in text
        assert "net" in text

    drive(feed, steps, size=size)


@pytest.mark.parametrize("after", ["_settle", "_tick", "_draw"])
def test_callbacks_after_the_end_draw_nothing(after: str) -> None:
    app = MonitorApp(two_boards(throttled=True))

    async def closed() -> None:
        async with app.run_test() as pilot:
            await pilot.resize_terminal(60, 20)
        app._schedule.reset()
        getattr(app, after)()

    asyncio.run(closed())


def test_boards_and_stages_appear_and_disappear() -> None:
    feed = two_boards()

    async def steps(app: MonitorApp, pilot: Pilot[None]) -> None:
        await seen(app, pilot)
        await pilot.press("down")
        name = "a-board-with-a-name"
        feed.tell(availability(11, name, b"online"))
        assert name in await seen(app, pilot)
        assert app._boards.table.selected == "pi-2"
        feed.tell(availability(12, name, b""), availability(12, "pi-2", b""))
        feed.tell(dataclasses.replace(manifest(12, ["pi-1"]), payload=b""))
        text = await seen(app, pilot)
        assert name not in text
        assert "Deployments: none" in text
        feed.tell(availability(13, "pi-1", b""))
        assert "Boards: none yet" in await seen(app, pilot)
        await pilot.press("enter", "tab", "enter", "s", "r", "9")
        assert "Deployments: none" in await seen(app, pilot)

    drive(feed, steps)


def test_markup_is_text_and_control_characters_are_replaced() -> None:
    message = manifest(0, ["pi-1"])
    payload = message.payload.replace(b'"Net"', b'"[red]N[/]\\u001b[2J[@click=app.quit]q"')
    feed = ToldFeed(dataclasses.replace(message, payload=payload))
    feed.tell(profile(0, "pi-1", cpu_model="[bold]cpu[/bold] \x1b]0;x\x07"))

    async def steps(app: MonitorApp, pilot: Pilot[None]) -> None:
        text = await seen(app, pilot)
        assert "[red]N[/]\N{REPLACEMENT CHARACTER}[2J[@click=app.quit]q" in text
        await pilot.press("enter")
        detail = await seen(app, pilot)
        assert "[bold]cpu[/bold]" in detail
        assert "\x1b" not in text + detail

    drive(feed, steps, size=(140, 40))


def test_no_color_draws_no_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    feed = two_boards(throttled=True)
    feed.tell(availability(12, "pi-2", b"offline"))

    async def steps(app: MonitorApp, pilot: Pilot[None]) -> None:
        assert "offline" in await seen(app, pilot)
        for strip in app.screen._compositor.render_strips():
            for _, style, _ in strip:
                for colour in (style.color, style.bgcolor) if style else ():
                    assert colour is None or colour.is_default

    drive(feed, steps)
