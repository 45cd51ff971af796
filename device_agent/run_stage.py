"""Run a loaded stage once for a request, from the state that the request needs."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from device_agent.client_order import StateError, Turn
from device_agent.refused_request import RefusedRequestError
from edge_core.contract.messages import ErrorCode
from edge_core.errors import EdgePartitionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from device_agent.load_stage import LoadedStage
    from edge_core.mqtt.message import Message
    from edge_core.mqtt.packet_stream import Buffer

_LOG = logging.getLogger("device-agent")


def run_stage(loaded: LoadedStage, message: Message, device: str) -> Sequence[Buffer]:
    """Return the result of a stage for a request.

    Args:
        loaded: The stage.
        message: The request.
        device: This board's name, for errors.

    Returns:
        The bytes of the stage's outputs, one output after another, in one or more buffers. The
        buffers may be views of the runtime's memory, so the caller must delete them before the next
        call.

    Raises:
        RefusedRequestError: The request has a wrong size, the state that it continues is lost, or
            the inference failed.
    """
    order, client = loaded.order, message.response_topic
    if order is None or client is None:
        _check_size(loaded, message)
        return _invoke(loaded, message, device)
    try:
        turn = order.find_turn(client, message.correlation_data)
        if turn is Turn.REPEAT:
            return [order.answer_again()]
    except StateError as error:
        raise RefusedRequestError(error.code, f"{_name(loaded, device)} {error}") from None
    _check_size(loaded, message)
    order.forget()  # If the inference fails, the state is unknown.
    result = b"".join(_invoke(loaded, message, device, starts_over=turn is Turn.FIRST))
    order.note(client, message.correlation_data, result)
    return [result]


def make_ready(loaded: LoadedStage) -> None:
    """Reset the state after an answer, so that the next request does not wait for the reset.

    A stage that keeps its state between requests is not reset. A failed reset is only logged,
    because ``invoke`` resets the state again if needed.
    """
    if loaded.order is None:
        try:
            loaded.interpreter.start_over()
        except EdgePartitionError as error:
            _LOG.warning(
                "stage %d of %s: cannot reset the state: %s",
                loaded.stage.index,
                loaded.deployment,
                error,
            )


def _invoke(
    loaded: LoadedStage, message: Message, device: str, *, starts_over: bool = False
) -> Sequence[Buffer]:
    try:
        if starts_over:
            loaded.interpreter.start_over()
        return loaded.interpreter.invoke_in_place(message.payload)
    except EdgePartitionError as error:
        raise RefusedRequestError(
            ErrorCode.STAGE_FAILED, f"{_name(loaded, device)}: {error}"
        ) from None


def _check_size(loaded: LoadedStage, message: Message) -> None:
    if len(message.payload) != loaded.interpreter.input_bytes:
        raise RefusedRequestError(
            ErrorCode.BAD_PAYLOAD,
            f"Stage {loaded.stage.index} of {loaded.deployment} got {len(message.payload):,} "
            f"bytes; expected {loaded.interpreter.input_bytes:,} bytes for "
            f"{', '.join(str(spec) for spec in loaded.stage.inputs)}.",
        )


def _name(loaded: LoadedStage, device: str) -> str:
    return f"Stage {loaded.stage.index} of {loaded.deployment} on board {device}"
