"""Keeps the fleet's recent requests, from results and from clients' reports. Pure."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from mqtt_monitor.fleet.limits import MAX_REQUESTS

if TYPE_CHECKING:
    from mqtt_monitor.fleet.snapshot import Request


class RequestLog:
    """Keeps the newest ``MAX_REQUESTS`` requests, with one entry for each request."""

    def __init__(self) -> None:
        self._requests: deque[Request] = deque(maxlen=MAX_REQUESTS)

    def add(self, request: Request) -> None:
        """Add a request.

        The monitor may receive both the result of a request and the client's report of the request.
        The entry with the report then replaces the entry with the result, because only a report
        contains the latency.
        """
        for position, other in enumerate(self._requests):
            if request.request and (other.client, other.request) == (
                request.client,
                request.request,
            ):
                if request.latency_ms is not None or other.latency_ms is None:
                    self._requests[position] = request
                return
        self._requests.append(request)

    def newest(self) -> tuple[Request, ...]:
        """Return the requests, oldest first."""
        return tuple(self._requests)
