"""The tables of ``--once``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import rich.console
from fleet_messages import Watched, availability, manifest, profile, stage, stats

from mqtt_monitor.fleet.alerts import find_alerts
from mqtt_monitor.terminal import show_fleet

if TYPE_CHECKING:
    import pytest

MIB = 1024 * 1024
NAMES = ["raspberry-pi-in-the-kitchen", "raspberry-pi-in-the-cellar"]


def test_tables_fit_80_columns_and_cut_no_number(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched().tell(manifest(0, NAMES, NAMES, name="net", predicted_ms=12345.67))
    for name in NAMES:
        watched.tell(availability(0, name, b"online"), profile(0, name, ram_mib=8192))
        for sequence in (1, 2):
            served = [
                stage(index, 50_000 * sequence, mean_ms=1234.5, errors={"expired": 7 * sequence})
                for index in (0, 1)
            ]
            load = {"rss_bytes": 8000 * MIB, "cpu_percent": 400.0, "throttled": True}
            watched.tell(stats(5.0 * sequence, name, sequence, *served, **load))
    fleet = watched.at(11)

    def console(**options: object) -> rich.console.Console:
        return rich.console.Console(force_terminal=True, no_color=True, width=80, highlight=False)

    monkeypatch.setattr(show_fleet, "Console", console)
    show_fleet.show_fleet(fleet, find_alerts(fleet))
    shown = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    assert max(map(len, shown.splitlines())) <= 80
    for number in ("400", "55!", "8,000/8,192!", "12,345.67", "1,234.50", "20,000.0"):
        assert number in shown, shown
    assert "errors of net stage 0: 28 expired" in shown
    assert "* bottleneck" in shown
