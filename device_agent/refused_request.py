"""The error that a request gets instead of a result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_core.errors import EdgePartitionError

if TYPE_CHECKING:
    from edge_core.contract.messages import ErrorCode


class RefusedRequestError(EdgePartitionError):
    """A request gets an error instead of a result.

    Attributes:
        code: The error's code in the answer. The message is the answer's text.
    """

    def __init__(self, code: ErrorCode, reason: str) -> None:
        """Refuse a request.

        Args:
            code: The error's code.
            reason: One line for the person who sent the request.
        """
        self.code = code
        super().__init__(reason)
