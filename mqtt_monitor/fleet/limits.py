"""How much the watcher keeps. Whatever is sent to its topics, its memory stays within this."""

from __future__ import annotations

MAX_DEVICES = 1000
MAX_DEPLOYMENTS = 200
#: Of all deployments together.
MAX_STAGES = 1000
#: Boards of one stage, stages of one board.
MAX_REPLICAS = 64
MAX_SERVED = 64
#: A stage on a board, of the whole fleet.
MAX_BOARD_STAGES = 4000
MAX_ERROR_CODES = 16
#: Of one board.
MAX_REFUSALS = 16
MAX_TENSORS = 32
MAX_TRACED_STAGES = 64
MAX_REQUESTS = 200
MAX_EVENTS = 500

MAX_STATS_BYTES = 256 * 1024
MAX_PROFILE_BYTES = 64 * 1024
#: A manifest holds the names of the classes too.
MAX_MANIFEST_BYTES = 4 * 1024 * 1024
#: Answers to commands and errors are sentences; larger results are tensors.
MAX_ANSWER_BYTES = 64 * 1024
MAX_TRACE_CHARACTERS = 16 * 1024
