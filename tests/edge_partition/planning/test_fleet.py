from __future__ import annotations

import math
import statistics
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from checkout import CHECKOUT

from edge_partition.planning.fleet import PRESETS, Device, FleetError, equal_fleet, load_fleet

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLE = CHECKOUT / "examples" / "three-boards.toml"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "fleet.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_field_is_read(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        [[device]]
        name = "pi-1"
        board = "raspberry-pi-4"
        ram_mib = 512
        storage_mib = 2048
        speed_gmac_s = 8.5
        threads = 2
        link_mbit_s = 90.0
        link_ms = 0
        int8_speedup = 3
        active_watts = 5
        idle_watts = 2.5
        """,
    )
    figures = {"int8_speedup": 3, "active_watts": 5, "idle_watts": 2.5}
    expected = Device("pi-1", "raspberry-pi-4", 512, 2048, 8.5, 2, 90.0, 0, **figures)
    assert load_fleet(path).devices == (expected,)


def test_a_preset_fills_in_only_missing_fields(tmp_path: Path) -> None:
    text = '[[device]]\nname = "a"\nboard = "raspberry-pi-zero-2-w"\nram_mib = 99\n'
    device = load_fleet(write(tmp_path, text)).devices[0]
    preset = PRESETS["raspberry-pi-zero-2-w"]
    assert device.ram_mib == 99
    assert replace(device, name="", board=None, ram_mib=preset.ram_mib) == preset


def test_a_board_with_only_a_name_has_no_limits(tmp_path: Path) -> None:
    device = load_fleet(write(tmp_path, '[[device]]\nname = "a"\n')).devices[0]
    assert device.ram_mib == device.storage_mib == math.inf


@pytest.mark.parametrize("board", PRESETS)
def test_a_preset_knows_the_power_of_the_board(board: str) -> None:
    preset = PRESETS[board]
    assert preset.active_watts is not None
    assert preset.idle_watts is not None
    assert preset.watts_above_idle == preset.active_watts - preset.idle_watts > 0


def test_the_power_of_a_board_without_a_preset_is_not_known(tmp_path: Path) -> None:
    device = load_fleet(write(tmp_path, '[[device]]\nname = "a"\n')).devices[0]
    assert device.watts_above_idle is None


def test_the_speeds_of_the_other_boards_follow_from_a_pi_4() -> None:
    pi_4, pi_3, zero, pi_5 = (
        (board.speed_gmac_s, board.speed_gmac_s * board.int8_speedup)
        for board in (PRESETS[f"raspberry-pi-{name}"] for name in ("4", "3b-plus", "zero-2-w", "5"))
    )
    # XNNPACK's times on a Pi 4 and a 3B+, in milliseconds: float, then int8.
    published = (
        [(72, 114), (41, 79), (38, 67), (13, 22)],
        [(29, 46), (20, 30)],
    )
    for index, times_ms in enumerate(published):
        ratio = statistics.geometric_mean([on_4 / on_3 for on_4, on_3 in times_ms])
        assert pi_3[index] / pi_4[index] == pytest.approx(ratio, rel=0.01)
        assert zero[index] / pi_3[index] == pytest.approx(1.0 / 1.4, rel=0.01)
        assert pi_5[index] / pi_4[index] == pytest.approx(2.5, rel=0.01)


def test_a_zero_2_w_has_the_memory_that_is_available_on_it() -> None:
    assert PRESETS["raspberry-pi-zero-2-w"].ram_mib == 265


def test_the_example_fleet_has_three_unequal_boards() -> None:
    devices = load_fleet(EXAMPLE).devices
    assert len({device.speed_gmac_s for device in devices}) == 3
    assert len({device.ram_mib for device in devices}) == 3


def test_equal_boards_differ_only_in_name() -> None:
    devices = equal_fleet(3).devices
    assert [device.name for device in devices] == ["board-0", "board-1", "board-2"]
    assert len({device.speed_gmac_s for device in devices}) == 1
    with pytest.raises(ValueError, match="expected 1 or more"):
        equal_fleet(0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["no board", "[[device]]"]),
        ("device = 3", ["no board"]),
        ("device = [3]", ["device[0]", "not a table"]),
        ("[[device]", ["not TOML"]),
        ('[[devices]]\nname = "a"', ["devices", "did you mean device?"]),
        ("[[device]]\nram_mib = 3", ["device[0], name", "missing"]),
        ('[[device]]\nname = "a/b"', ["device[0], name", "'a/b'"]),
        ("[[device]]\nname = 7", ["name", "7"]),
        ('[[device]]\nname = "a"\nram_mb = 3', ["a, ram_mb", "did you mean ram_mib?"]),
        ('[[device]]\nname = "a"\nram_mib = "3"', ["a, ram_mib", "'3'", "a number"]),
        ('[[device]]\nname = "a"\nram_mib = true', ["a, ram_mib", "true"]),
        ('[[device]]\nname = "a"\nram_mib = 0', ["a, ram_mib", "0", "above 0"]),
        ('[[device]]\nname = "a"\nlink_ms = -1', ["a, link_ms", "-1"]),
        ('[[device]]\nname = "a"\nspeed_gmac_s = nan', ["a, speed_gmac_s", "nan"]),
        ('[[device]]\nname = "a"\nlink_mbit_s = inf', ["a, link_mbit_s", "inf"]),
        ('[[device]]\nname = "a"\nthreads = 1.5', ["a, threads", "1.5", "whole"]),
        ('[[device]]\nname = "a"\nboard = "raspberry-pi-44"', ["board", "raspberry-pi-4?"]),
        ('[[device]]\nname = "a"\nboard = 4', ["a, board", "expected a string"]),
        ('[[device]]\nname = "a"\nactive_watts = 3', ["a, active_watts", "needs idle_watts"]),
        ('[[device]]\nname = "a"\nidle_watts = 3', ["a, idle_watts", "needs active_watts"]),
        ('[[device]]\nname = "a"\nactive_watts = -3\nidle_watts = 1', ["active_watts", "-3"]),
        (
            '[[device]]\nname = "a"\nboard = "raspberry-pi-4"\nidle_watts = 7',
            ["a, idle_watts", "5.9", "7"],
        ),
        ('[[device]]\nname = "a"\n[[device]]\nname = "a"', ["a, name", "two devices"]),
    ],
)
def test_the_error_for_an_invalid_file_names_file_device_and_field_in_one_line(
    tmp_path: Path, text: str, words: list[str]
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(FleetError) as caught:
        load_fleet(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    for word in words:
        assert word in message


def test_the_error_names_a_missing_file_and_a_file_that_is_not_utf_8(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match=r"fleet\.toml.*No such file"):
        load_fleet(tmp_path / "fleet.toml")
    (tmp_path / "fleet.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(FleetError, match="UTF-8"):
        load_fleet(tmp_path / "fleet.toml")
