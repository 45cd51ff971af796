"""The order of a client's requests to a stage that keeps state between requests.

Each request carries its client's response topic. Its correlation data is a number in 8 big-endian
bytes: 1 in the client's first request, and one more in each further request. From the topic and the
number, each stage of a chain recognizes a client's first request, the next request, a request that
was sent again after a reconnect, and a request that the stage's state does not fit. All stages
reach the same decision without messages between the stages.

Some clients send other correlation data (``mosquitto_rr``, ``mosquitto_pub``). A stage serves the
requests of such clients in order of arrival. A request that follows another client's request starts
from the initial state.

The module only decides: it runs no model, and uses no clock and no connection.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from edge_core.contract.messages import ErrorCode
from edge_core.errors import EdgePartitionError

_NUMBER_BYTES = 8


class StateError(EdgePartitionError):
    """A request needs a state that the stage does not have.

    Attributes:
        code: Cause, ``state-lost`` or ``state-taken``.
    """

    def __init__(self, code: ErrorCode, reason: str) -> None:
        self.code = code
        super().__init__(reason)


class Turn(Enum):
    """The position of a request in the order of its client's requests."""

    FIRST = "starts from the initial state"
    NEXT = "continues from the previous request"
    REPEAT = "was already answered"


@dataclass(frozen=True)
class _Served:
    """The last request that the stage served; ``number`` is None if the request has no number."""

    client: str
    number: int | None
    answer: bytes


class ClientOrder:
    """The client whose state a stage holds, with the client's last request and the answer."""

    def __init__(self) -> None:
        """Start with a state that belongs to no client."""
        self._served: _Served | None = None

    def find_turn(self, client: str, correlation_data: bytes | None) -> Turn:
        """Return the position of a request in the order of its client's requests.

        Args:
            client: Response topic of the request.
            correlation_data: Correlation data of the request; None: the request has none.

        Raises:
            StateError: With ``state-lost``: the stage does not have the state after the client's
                previous request; with ``state-taken``: the state belongs to another client.
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
                f"got request {number} but has no state: the board restarted, the deployment "
                "was replaced, or a request failed. Open a new pipeline to start again.",
            )
        if not is_same:
            raise StateError(
                ErrorCode.STATE_TAKEN,
                f"got request {number} from one client, but keeps the model's state for another: "
                "the stage serves one client at a time. Open a new pipeline to start again.",
            )
        if last.number is not None and number == last.number + 1:
            return Turn.NEXT
        raise StateError(
            ErrorCode.STATE_LOST,
            f"got request {number}, but the previous request was "
            f"{last.number or 'one without a number'}, so the state does not fit the request. Open "
            "a new pipeline to start again.",
        )

    def answer_again(self) -> bytes:
        """Return the answer to the last request.

        Raises:
            StateError: With ``state-lost``: the stage holds no answer.
        """
        if self._served is None:
            raise StateError(
                ErrorCode.STATE_LOST,
                "has lost its last answer. Open a new pipeline to start again.",
            )
        return self._served.answer

    def note(self, client: str, correlation_data: bytes | None, answer: bytes) -> None:
        """Record that a request was served: the state now belongs to ``client``."""
        self._served = _Served(client, _number(correlation_data), answer)

    def forget(self) -> None:
        """Record that the state belongs to no client, for example after a failed inference."""
        self._served = None


def _number(correlation_data: bytes | None) -> int | None:
    if correlation_data is None or len(correlation_data) != _NUMBER_BYTES:
        return None
    return int.from_bytes(correlation_data, "big")
