from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psutil
import pytest
from agent_host import wait_for

from device_agent.telemetry.link import LinkReader

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent_host import AgentProcess, Host

WIRELESS = """\
Inter-| sta-|   Quality        |   Discarded packets               | Missed | WE
 face | tus | link level noise |  nwid  crypt   frag  retry   misc | beacon | 22
 wlan0: 0000   52.  -58.  -256        0      0      0      0     14        0
{name}: 0000   {quality}  {level}  -256        0      0      0      0     14        0
"""


def _loopback() -> str:
    return next(
        name
        for name, addresses in psutil.net_if_addrs().items()
        if any(item.address == "127.0.0.1" for item in addresses)
    )


def _board(folder: Path, **files: str) -> Path:
    """Lay out what Linux tells of the interface that has 127.0.0.1."""
    (folder / _loopback() / "statistics").mkdir(parents=True)
    for name, text in files.items():
        place = "statistics/" if name.endswith("_bytes") else ""
        (folder / _loopback() / f"{place}{name}").write_text(text)
    return folder


def test_speed_and_bytes_of_a_wire_are_read(tmp_path: Path) -> None:
    board = _board(tmp_path, speed="1000\n", rx_bytes="5000000000\n", tx_bytes="7\n")
    assert LinkReader(board, tmp_path / "none").read("127.0.0.1") == {
        "interface": _loopback(),
        "speed_mbit_s": 1000,
        "received_bytes": 5_000_000_000,
        "sent_bytes": 7,
    }


@pytest.mark.parametrize("speed", ["-1\n", "0\n", "", "fast\n", "9" * 5000])
def test_a_speed_that_is_none_is_left_out(tmp_path: Path, speed: str) -> None:
    assert "speed_mbit_s" not in (LinkReader(_board(tmp_path, speed=speed)).read("127.0.0.1") or {})


@pytest.mark.parametrize(("level", "told"), [("-71.", -71.0), ("54.", None), ("loud", None)])
def test_the_signal_is_that_of_the_interface_which_reaches_the_broker(
    tmp_path: Path, level: str, told: float | None
) -> None:
    wireless = tmp_path / "wireless"
    wireless.write_text(WIRELESS.format(name=_loopback(), quality="39.", level=level))
    link = LinkReader(_board(tmp_path / "net"), wireless).read("127.0.0.1")
    assert link is not None
    assert link.get("signal_dbm") == told


@pytest.mark.parametrize("address", [None, "192.0.2.1", "../../etc", ""])
def test_an_address_of_no_interface_tells_nothing(address: str | None) -> None:
    assert LinkReader().read(address) is None


def test_an_agents_statistics_name_its_link(
    host: Host, name: str, start: Callable[..., AgentProcess]
) -> None:
    start(name)

    def told() -> dict[str, Any] | None:
        return next((item for item in host.stats if item["device"] == name), None)

    first = wait_for(told)["link"]
    assert first["interface"] == _loopback()
    host.stats.clear()
    second = wait_for(told)["link"]
    assert second["received_bytes"] > first["received_bytes"]
    assert second["sent_bytes"] > first["sent_bytes"]
