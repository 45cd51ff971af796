"""What goes beside the tensors: error codes, the trace, and commands to agents.

A command is a JSON object with the field ``command``; its answer, on the response topic with the
same correlation data, is a JSON object with ``ok``. Where ``ok`` is false, ``code`` and
``reason`` say why.

- ``ping``: answers ``device`` and ``instance``, which tells two agents of one name apart.
- ``prepare`` with ``manifest`` and ``references`` (for each stage of this device ``{stage, input,
  output}``, the two as ``{sha256, size_bytes}``): answers ``artifacts``, the files and reference
  tensors it wants: ``{sha256, size_bytes, have_bytes}``; and ``needs``, those of the manifest's,
  all of which it understands, or it refuses (``unknown-need``).
- ``store`` with ``sha256``, ``size_bytes``, ``offset`` and ``data`` (base64): answers
  ``have_bytes``.
- ``load`` with ``deployment`` and ``generation``: loads the prepared stages, runs each on its
  reference and answers ``stages``: ``{stage, load_ms, invoke_ms, max_difference, ram_bytes}``.
- ``abort`` with ``deployment`` and ``generation``: forgets what was prepared.
- ``remove`` with ``deployment``: stops serving it and deletes its files.
- ``status``: answers ``deployments``: ``{deployment, generation, state, stages}`` with the state
  ``prepared``, ``live`` or ``draining``.
- ``profile`` with ``manifest`` (of one stage, for this device: a slice of a model),
  ``displaced_bytes`` (read before each run, as the rest of a stage would displace the slice from
  the caches), ``max_s`` and optionally ``force``: while the slice's file is not complete, answers
  ``have_bytes``, and the rest comes by ``store``; then times the slice, frees it and answers
  ``{invoke_ms, spread_ms, runs, settled, temperature_c, clock_mhz}``: the median over batches of
  runs, from the fastest batch to the slowest, and whether the median stood still. A board
  that serves a deployment refuses (``busy``) without ``force``: timing would slow its serving
  down, and serving would falsify the times.
- ``time-messages`` with ``size_bytes`` and optionally ``force``: the board sends itself messages
  of that size, as a stage's are sent and received, on a topic of its own under its result topic;
  answers ``{lone_ms, window_ms, cpu_ms, cores}``: what a message in and one out take together, one
  at a time and four in flight, the agent's processor time of it in the first case, and how many
  processors the agent gets when its threads and one more are busy. Refuses as ``profile`` does.

A deployment goes live when its manifest is published, retained, on the deployment's manifest
topic; an agent that loaded that generation then starts serving it.
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

#: Requests that the broker may send an agent ahead: enough to keep its stage busy, little enough
#: that a slow board doesn't hold what a replica could do.
RECEIVE_MAXIMUM = 8
#: The largest message that ``time-messages`` times.
MAX_TIMED_MESSAGE_BYTES = 1 << 20
#: The longest that a ``profile`` may time one slice, in seconds.
MAX_PROFILE_S = 10.0
#: The most bytes that a ``profile`` may have read between a slice's runs.
MAX_DISPLACED_BYTES = 64 << 20


class ErrorCode(StrEnum):
    """Why a request or a command failed: the value of the user property ``error``, or ``code``."""

    BAD_PAYLOAD = "bad-payload"
    UNKNOWN_GENERATION = "unknown-generation"
    EXPIRED = "expired"
    STAGE_FAILED = "stage-failed"
    TOO_LARGE = "too-large"
    OVERLOADED = "overloaded"
    STOPPING = "stopping"
    # Of a stage that keeps state from one request of a client to its next.
    STATE_LOST = "state-lost"
    STATE_TAKEN = "state-taken"
    # Answers to commands.
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
    """What one stage took for one request.

    Attributes:
        stage: The stage's index.
        device: The agent that ran it.
        queue_ms: From arrival at the agent to the start of the inference.
        invoke_ms: The inference, tensors in and out included.
    """

    stage: int
    device: str
    queue_ms: float
    invoke_ms: float


def decode_trace(text: str | None) -> tuple[StageTrace, ...]:
    """Read a ``trace``; what can't be read is left out, since a trace only informs."""
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
    """Return ``text`` with one stage more, without reading what stands there."""
    entry = json.dumps(
        {
            "stage": stage.stage,
            "device": stage.device,
            "queue_ms": round(stage.queue_ms, 3),
            "invoke_ms": round(stage.invoke_ms, 3),
        },
        separators=(",", ":"),
    )
    if text and text.startswith("[") and text.endswith("]") and len(text) > len("[]"):
        return f"{text[:-1]},{entry}]"
    return f"[{entry}]"


class CommandError(EdgePartitionError):
    """An agent can't do what a command asks.

    Attributes:
        code: One of :class:`ErrorCode`.
        reason: A sentence for the person at the host.
    """

    def __init__(self, code: ErrorCode, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(reason)


def encode_json(document: dict[str, Any]) -> bytes:
    """Return a command, an answer, a profile or stats as UTF-8 JSON."""
    return json.dumps(document, separators=(",", ":")).encode()


def decode_json(payload: bytes | bytearray) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        CommandError: With ``bad-command``: the payload is not a JSON object.
    """
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise CommandError(ErrorCode.BAD_COMMAND, f"The payload is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise CommandError(
            ErrorCode.BAD_COMMAND,
            f"The payload is a JSON {type(document).__name__}; expected an object.",
        )
    return document
