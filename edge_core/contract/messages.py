"""Messages without tensors: error codes, the trace of a request, and commands to agents.

A command is a JSON object with the field ``command``. The agent answers on the response topic with
the same correlation data. The answer is a JSON object with ``ok``. If ``ok`` is false, ``code`` and
``reason`` give the cause. The commands, their fields and the fields of their answers:

- ``ping``: the answer has ``device``, the agent's name, and ``instance``, an id that differs
  between two agents with the same name.
- ``prepare`` with ``manifest`` and ``references``: checks whether the board can serve its stages.
  ``references`` has ``{stage, input, output}`` for each stage of this device; ``input`` and
  ``output`` are ``{sha256, size_bytes}`` of the reference tensors. The answer has ``artifacts`` and
  ``needs``. ``artifacts`` are the files and reference tensors that the stages need, each as
  ``{sha256, size_bytes, have_bytes}``; ``have_bytes`` is the number of bytes that the agent already
  has. ``needs`` are the needs of the manifest. An agent that does not support one of the needs
  refuses (``unknown-need``).
- ``store`` with ``sha256``, ``size_bytes``, ``offset`` and ``data`` (base64): adds a chunk to a
  file. The answer has ``have_bytes``, the number of bytes that the agent now has.
- ``load`` with ``deployment`` and ``generation``: loads the prepared stages and runs each stage on
  its reference input. The answer has ``stages``: for each stage ``{stage, load_ms, invoke_ms,
  max_difference, ram_bytes}``.
- ``abort`` with ``deployment`` and ``generation``: deletes the prepared stages.
- ``remove`` with ``deployment``: stops serving the deployment and deletes its files.
- ``status``: the answer has ``deployments``: for each deployment ``{deployment, generation, state,
  stages}``, with the state ``prepared``, ``live`` or ``draining``.
- ``profile`` with ``manifest``, ``displaced_bytes``, ``max_s`` and optionally ``force``: times one
  slice of a model. The slice is the only stage in ``manifest``. Before each run, the agent reads
  ``displaced_bytes`` bytes of memory. They displace the slice from the caches as the rest of a
  stage would. If the slice's file is incomplete, the answer has only ``have_bytes``: the host sends
  the rest by ``store`` and repeats the command. Otherwise the agent times the slice and frees its
  memory. The answer then has ``{invoke_ms, spread_ms, runs, settled, temperature_c, clock_mhz}``:
  the median over batches of runs, the range from the fastest to the slowest batch, the number of
  runs, whether the median settled, and the board's temperature and clock. A board that serves a
  deployment refuses (``busy``) without ``force``: the timing would slow the deployment down, and
  the deployment would falsify the times.
- ``time-messages`` with ``size_bytes`` and optionally ``force``: the board sends itself messages
  of this size on a topic below its result topic, as a stage receives and sends messages. The answer
  has ``{lone_ms, window_ms, cpu_ms, apart_cpu_ms, cores}``. ``lone_ms`` and ``window_ms`` are the
  times to receive and send a message, with one message and with four messages in flight. ``cpu_ms``
  and ``apart_cpu_ms`` are the agent's processor times for a message with one message in flight,
  without and with a pause before each message. ``cores`` is the number of processors that the agent
  gets while its threads and one more thread are busy. A board that serves a deployment refuses
  (``busy``) without ``force``.

A deployment goes live when the host publishes its manifest, retained, on the deployment's manifest
topic. An agent that has loaded this generation then starts to serve the deployment.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from edge_core.errors import EdgePartitionError

#: Names of the user properties of messages with tensors.
GENERATION = "generation"
TRACE = "trace"
ERROR = "error"
#: The boards that a request passes, one for each stage, joined by commas.
ROUTE = "route"

#: Most requests that the broker sends an agent before the agent acknowledges one. The requests keep
#: the stage busy. With a larger number, a slow board would hold requests that another replica could
#: serve.
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
        invoke_ms: Time of the inference, in milliseconds. The copying of inputs and outputs is
            included.
    """

    stage: int
    device: str
    queue_ms: float
    invoke_ms: float


def decode_trace(text: str | None) -> tuple[StageTrace, ...]:
    """Return the stages in the user property ``trace``; empty if the text cannot be read."""
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
    """Append a stage to ``text``, a user property ``trace``, without parsing ``text``."""
    # Formatting is six times as fast as json.dumps. A board's name needs no escapes (NAME_PATTERN).
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
    """Return ``document`` as a JSON object in UTF-8."""
    return json.dumps(document, separators=(",", ":")).encode()


def decode_json(payload: bytes | memoryview) -> dict[str, Any]:
    """Return the JSON object in a payload.

    Raises:
        CommandError: The payload is not a JSON object. The code is ``bad-command``.
    """
    try:
        document = json.loads(bytes(payload))
    except (ValueError, RecursionError) as error:
        raise CommandError(ErrorCode.BAD_COMMAND, f"The payload is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise CommandError(
            ErrorCode.BAD_COMMAND,
            f"The payload is a JSON {type(document).__name__}; expected a JSON object.",
        )
    return document
