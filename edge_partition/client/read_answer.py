"""Read an answer message, which is a result, an error or a temporary error."""

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
#: Codes of temporary errors, after which the client sends the request again: a deployment is being
#: replaced, a board restarts, or a board has too many requests. The repeat goes to the generation
#: that is live at that time, and may go to another board of the stage.
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
    """Return the result or the error in an answer message; None for a temporary error.

    A result whose payload has the wrong size becomes an error.

    Args:
        manifest: The live manifest.
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
    # After an error, the state kept between requests may lack the request's effect. Later requests
    # would then get wrong results.
    is_final = code in _STATE_CODES or manifest.model.state == "keep"
    return RequestError(code, reason, trace, is_final=is_final)
