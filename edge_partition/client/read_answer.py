"""The meaning of an answer: a result, an error, or a temporary error after which to try again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_core.contract.messages import ERROR, TRACE, ErrorCode, decode_trace
from edge_core.contract.tensors import decode_tensors
from edge_core.errors import PayloadError
from edge_partition.client.errors import RequestError
from edge_partition.client.result import Result

if TYPE_CHECKING:
    from edge_core.contract.manifest import Manifest
    from edge_core.mqtt.message import Message

_STATE_CODES = frozenset({ErrorCode.STATE_LOST, ErrorCode.STATE_TAKEN})
#: Codes of temporary errors: a deployment is being replaced, a board restarts, or a board has too
#: many requests. The next attempt uses the generation that is live by then, and another board if
#: there is one.
PASSING_CODES = frozenset(
    {
        ErrorCode.UNKNOWN_GENERATION,
        ErrorCode.STOPPING,
        ErrorCode.OVERLOADED,
        ErrorCode.NOT_LISTENING,
    }
)


def read_answer(
    manifest: Manifest, message: Message, latency_ms: float
) -> Result | RequestError | None:
    """Return the result or the error in a message; None for a temporary error.

    Args:
        manifest: The manifest that is live.
        message: The answer to a request.
        latency_ms: Time from submitting the request to its answer, in milliseconds.
    """
    trace = decode_trace(message.user.get(TRACE))
    code = message.user.get(ERROR)
    if code is None:
        try:
            outputs = decode_tensors(manifest.outputs, message.payload)
        except PayloadError as error:
            return RequestError(ErrorCode.BAD_PAYLOAD, str(error), trace)
        return Result(outputs, latency_ms, trace)
    if code in PASSING_CODES:
        return None
    reason = bytes(message.payload).decode("utf-8", "replace")
    # A kept state that may lack a request's effect can't be used any more.
    is_final = code in _STATE_CODES or manifest.model.state == "keep"
    return RequestError(code, reason, trace, is_final=is_final)
