"""The error that a request gets instead of a result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_core.errors import EdgePartitionError

if TYPE_CHECKING:
    from edge_core.contract.messages import ErrorCode


class RefusedRequestError(EdgePartitionError):
    """A request is answered with an error instead of a result.

    Attributes:
        code: Code of the error in the answer. The exception's message is the answer's payload.
    """

    def __init__(self, code: ErrorCode, reason: str) -> None:
        """Create the error.

        Args:
            code: Code of the error.
            reason: One line for the person who sent the request.
        """
        self.code = code
        super().__init__(reason)
