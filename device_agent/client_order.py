"""Whose state a stage holds that goes on from request to request, and which request comes next.

Requests bring the client's response topic and, as correlation data, a number of 8 big-endian bytes
that starts at 1. From these alone a stage tells a client's first request, its next one, one that
was sent again after a reconnect, and one that its state doesn't fit: every stage of a chain decides
by itself and alike. Pure: nothing here runs a model.

A client whose correlation data is no such number (``mosquitto_rr``, ``mosquitto_pub``) is served in
the order in which its requests arrive, from the initial state on if another was served before.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from edge_core.contract.messages import ErrorCode
from edge_core.errors import EdgePartitionError

_NUMBER_BYTES = 8


class StateError(EdgePartitionError):
    """A request needs a state that the stage does not hold.

    Attributes:
        code: ``state-lost`` or ``state-taken``.
    """

    def __init__(self, code: ErrorCode, reason: str) -> None:
        self.code = code
        super().__init__(reason)


class Turn(Enum):
    """What a request is to the state."""

    FIRST = "starts from the initial state"
    NEXT = "goes on from the request before"
    REPEAT = "was answered already"


@dataclass(frozen=True)
class _Served:
    client: str
    number: int | None
    answer: bytes


class ClientOrder:
    """One stage's client: its last request and the answer to it."""

    def __init__(self) -> None:
        """Start with no client."""
        self._served: _Served | None = None

    def find_turn(self, client: str, correlation_data: bytes | None) -> Turn:
        """Return what a request is to the state.

        Args:
            client: The response topic.
            correlation_data: The request's.

        Raises:
            StateError: With ``state-lost``: the requests before it are not in the state; with
                ``state-taken``: another client's are.
        """
        number, last = _number(correlation_data), self._served
        is_same = last is not None and last.client == client
        if number is None:
            return Turn.NEXT if is_same else Turn.FIRST
        if last is not None and is_same and number == last.number:
            return Turn.REPEAT
        if number == 1:
            return Turn.FIRST
        if last is None:
            raise StateError(
                ErrorCode.STATE_LOST,
                f"got request {number} and holds no state: the board started again since, the "
                "deployment is a new one, or a request failed. Open a new pipeline to begin anew.",
            )
        if not is_same:
            raise StateError(
                ErrorCode.STATE_TAKEN,
                f"got request {number} of a client whose state another client's first request "
                "ended: it serves one client at a time. Open a new pipeline to take it back.",
            )
        if last.number is not None and number == last.number + 1:
            return Turn.NEXT
        raise StateError(
            ErrorCode.STATE_LOST,
            f"got request {number} after {last.number or 'one without a number'}: its state is not "
            "what the client's requests before led to. Open a new pipeline to begin anew.",
        )

    def answer_again(self) -> bytes:
        """Return the last request's answer.

        Raises:
            StateError: With ``state-lost``: there is none.
        """
        if self._served is None:
            raise StateError(ErrorCode.STATE_LOST, "holds no answer.")
        return self._served.answer

    def note(self, client: str, correlation_data: bytes | None, answer: bytes) -> None:
        """Take note that a request was served: the state is its client's."""
        self._served = _Served(client, _number(correlation_data), answer)

    def forget(self) -> None:
        """Take note that the state is nobody's, such as after an inference that failed."""
        self._served = None


def _number(correlation_data: bytes | None) -> int | None:
    if correlation_data is None or len(correlation_data) != _NUMBER_BYTES:
        return None
    return int.from_bytes(correlation_data, "big")
