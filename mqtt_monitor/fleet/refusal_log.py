"""Reads from a board's statistics which deployments the board refused. Pure."""

from __future__ import annotations

from typing import Any

from mqtt_monitor.fleet.limits import MAX_REFUSALS
from mqtt_monitor.fleet.read_values import read_list, read_name, read_number, read_text
from mqtt_monitor.fleet.snapshot import Refusal

#: In the first statistics that the monitor receives from a board, a refusal up to this age counts
#: as new. In seconds.
_NEWS_S = 15.0


class RefusalLog:
    """Keeps the deployments that one board refused, and tells which refusals are new.

    Attributes:
        are_reported: Whether the newest statistics have a list of refusals. Statistics of old
            agents have none.
        current: The refusals in the newest statistics.
        new: The refusals that the newest statistics report for the first time.
    """

    def __init__(self) -> None:
        self.are_reported = False
        self.current: tuple[Refusal, ...] = ()
        self.new: tuple[Refusal, ...] = ()
        #: Time of each deployment's refusal, by the board's clock.
        self._refused_at_s: dict[str, float] = {}

    def fold(self, document: dict[str, Any], at_s: float, *, known: bool) -> None:
        """Read the refusals in a statistics message.

        Args:
            document: The statistics, as received.
            at_s: Arrival time, in seconds since the epoch.
            known: Whether the monitor has received earlier statistics of the board.
        """
        self.are_reported = "refusals" in document
        now_s = read_number(document.get("time_s"))
        refusals: list[Refusal] = []
        new: list[Refusal] = []
        refused_at_s: dict[str, float] = {}
        for entry in read_list(document.get("refusals"), MAX_REFUSALS):
            if not isinstance(entry, dict):
                continue
            deployment = read_name(entry.get("deployment"))
            then_s = read_number(entry.get("time_s"))
            if deployment is None or then_s is None or deployment in refused_at_s:
                continue
            refused_at_s[deployment] = then_s
            if self._refused_at_s.get(deployment) == then_s:
                # The earlier entry is kept: the time of the refusal, if computed again, would be
                # slightly different, because each message takes another time on the network.
                refusals.append(next(it for it in self.current if it.deployment == deployment))
                continue
            # Both times are by the board's clock, so an offset of this clock cancels out.
            age_s = max(0.0, now_s - then_s) if now_s is not None else 0.0
            code = read_text(entry.get("code")) or "other"
            refusal = Refusal(
                deployment=deployment,
                generation=read_name(entry.get("generation")),
                code=code,
                reason=read_text(entry.get("reason")) or code,
                at_s=at_s - age_s,
            )
            refusals.append(refusal)
            if known or age_s <= _NEWS_S:
                new.append(refusal)
        self.current, self.new = tuple(refusals), tuple(new)
        self._refused_at_s = refused_at_s
