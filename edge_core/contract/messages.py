"""Messages beside the tensors: error codes, the trace, and commands to agents.

A command is a JSON object with the field ``command``. The agent answers on the response topic with
the same correlation data. The answer is a JSON object with ``ok``; if ``ok`` is false, ``code`` and
``reason`` give the cause.

- ``ping``: answers ``device`` and ``instance``. Two agents with one name have different instances.
- ``prepare`` with ``manifest`` and ``references`` (for each stage of this device ``{stage, input,
  output}``, with input and output as ``{sha256, size_bytes}``): answers ``artifacts``, the files
  and reference tensors that the agent lacks, as ``{sha256, size_bytes, have_bytes}``; and
  ``needs``, the needs of the manifest. An agent that does not support one of the needs refuses
  (``unknown-need``).
- ``store`` with ``sha256``, ``size_bytes``, ``offset`` and ``data`` (base64): answers
  ``have_bytes``.
- ``load`` with ``deployment`` and ``generation``: loads the prepared stages, runs each on its
  reference and answers ``stages``: ``{stage, load_ms, invoke_ms, max_difference, ram_bytes}``.
- ``abort`` with ``deployment`` and ``generation``: deletes the prepared stages.
- ``remove`` with ``deployment``: stops serving the deployment and deletes its files.
- ``status``: answers ``deployments``: ``{deployment, generation, state, stages}`` with the state
  ``prepared``, ``live`` or ``draining``.
- ``profile`` with ``manifest`` (one stage, a slice of a model, for this device),
  ``displaced_bytes``, ``max_s`` and optionally ``force``. Before each run the agent reads
  ``displaced_bytes`` bytes of memory, which displace the slice from the caches as the rest of a
  stage would. While the slice's file is incomplete, the agent answers ``have_bytes``, and the host
  sends the rest by ``store``. Then the agent times the slice, frees it and answers ``{invoke_ms,
  spread_ms, runs, settled, temperature_c, clock_mhz}``: the median over batches of runs, the range
  from the fastest to the slowest batch, the number of runs, and whether the median settled. A board
  that serves a deployment refuses (``busy``) without ``force``: the timing would slow the
  deployment down, and the deployment would falsify the times.
- ``time-messages`` with ``size_bytes`` and optionally ``force``: the board sends itself messages
  of this size on a topic below its result topic, as a stage receives and sends messages. The board
  answers ``{lone_ms, window_ms, cpu_ms, apart_cpu_ms, cores}``: the time to receive and send a
  message, one message at a time and with four in flight; the agent's processor time for one message
  at a time, without and with a pause before each message; and the number of processors that the
  agent gets while its threads and one more thread are busy. A board that serves a deployment
  refuses without ``force``.

A deployment goes live when the host publishes its manifest, retained, on the deployment's manifest
topic. An agent that has loaded this generation then starts to serve the deployment.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from edge_core.errors import EdgePartitionError

#: User properties of tensor messages.
GENERATION = "generation"
TRACE = "trace"
ERROR = "error"
#: The boards that a request passes, one for each stage, joined by commas.
ROUTE = "route"

#: Requests in flight to an agent: enough to keep the stage busy, and few enough that a slow board
#: does not hold requests that another replica could serve.
RECEIVE_MAXIMUM = 8
#: Time for which the broker keeps QoS 1 messages for a disconnected agent, in seconds.
SESSION_EXPIRY_S = 60
#: The largest message that ``time-messages`` times, in bytes.
MAX_TIMED_MESSAGE_BYTES = 1 << 20
#: The longest time that ``profile`` may time one slice, in seconds.
MAX_PROFILE_S = 10.0
#: Upper bound of ``displaced_bytes`` in ``profile``.
MAX_DISPLACED_BYTES = 64 << 20


class ErrorCode(StrEnum):
    """Causes of a failed request (user property ``error``) or of a failed command (``code``)."""

    BAD_PAYLOAD = "bad-payload"
    UNKNOWN_GENERATION = "unknown-generation"
    EXPIRED = "expired"
    STAGE_FAILED = "stage-failed"
    TOO_LARGE = "too-large"
    OVERLOADED = "overloaded"
    STOPPING = "stopping"
    BAD_ROUTE = "bad-route"
    NOT_LISTENING = "not-listening"
    BROKER_REFUSED = "broker-refused"
    # Only with state "keep".
    STATE_LOST = "state-lost"
    STATE_TAKEN = "state-taken"
    # Only in answers to commands.
    BAD_COMMAND = "bad-command"
    NO_MEMORY = "no-memory"
    NO_STORAGE = "no-storage"
    CHECKSUM = "checksum"
    CANNOT_LOAD = "cannot-load"
    WRONG_RESULT = "wrong-result"
    NOT_FOUND = "not-found"
    BUSY = "busy"
    UNKNOWN_NEED = "unknown-need"


@dataclass(frozen=True)
class StageTrace:
    """The times of one stage for one request.

    Attributes:
        stage: Index of the stage.
        device: Name of the board that ran the stage.
        queue_ms: Time from arrival at the agent to the start of the inference, in milliseconds.
        invoke_ms: Time of the inference with the copies of its inputs and outputs, in milliseconds.
    """

    stage: int
    device: str
    queue_ms: float
    invoke_ms: float


def decode_trace(text: str | None) -> tuple[StageTrace, ...]:
    """Read a ``trace``; return an empty trace if the text cannot be read."""
    try:
        return tuple(
            StageTrace(
                int(stage["stage"]),
                str(stage["device"]),
                float(stage["queue_ms"]),
                float(stage["invoke_ms"]),
            )
            for stage in json.loads(text or "[]")
        )
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return ()


def append_trace(text: str | None, stage: StageTrace) -> str:
    """Return ``text`` with one more stage; the stages in ``text`` are not parsed."""
    # Six times as fast as json.dumps; a board's name needs no escapes (NAME_PATTERN).
    entry = (
        f'{{"stage":{stage.stage},"device":"{stage.device}",'
        f'"queue_ms":{stage.queue_ms:.3f},"invoke_ms":{stage.invoke_ms:.3f}}}'
    )
    if text and text.startswith("[") and text.endswith("]") and len(text) > len("[]"):
        return f"{text[:-1]},{entry}]"
    return f"[{entry}]"


class CommandError(EdgePartitionError):
    """An agent refuses a command.

    Attributes:
        code: Cause, for programs.
        reason: Cause in a sentence, for people.
    """

    def __init__(self, code: ErrorCode, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(reason)


def encode_json(document: dict[str, Any]) -> bytes:
    """Return a JSON object as UTF-8 text."""
    return json.dumps(document, separators=(",", ":")).encode()


def decode_json(payload: bytes | memoryview) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        CommandError: With ``bad-command``: the payload is not a JSON object.
    """
    try:
        document = json.loads(bytes(payload))
    except (ValueError, RecursionError) as error:
        raise CommandError(ErrorCode.BAD_COMMAND, f"The payload is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise CommandError(
            ErrorCode.BAD_COMMAND,
            f"The payload is a JSON {type(document).__name__}; expected an object.",
        )
    return document
