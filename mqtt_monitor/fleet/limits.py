"""Limits of the data that the monitor reads and keeps.

With these limits, no sequence of messages can make the monitor's memory grow without bound.
"""

from __future__ import annotations

MAX_DEVICES = 1000
MAX_DEPLOYMENTS = 200
#: Stages of all deployments together.
MAX_STAGES = 1000
#: Boards of one stage.
MAX_REPLICAS = 64
#: Stages of one board.
MAX_SERVED = 64
#: Stage counters of all boards together.
MAX_BOARD_STAGES = 4000
MAX_ERROR_CODES = 16
#: Refusals of one board.
MAX_REFUSALS = 16
MAX_TENSORS = 32
MAX_TRACED_STAGES = 64
MAX_REQUESTS = 200
MAX_EVENTS = 500

MAX_STATS_BYTES = 256 * 1024
MAX_PROFILE_BYTES = 64 * 1024
#: A manifest may be large, because it includes the names of the model's classes.
MAX_MANIFEST_BYTES = 4 * 1024 * 1024
#: Answers to commands and error messages are short. Larger payloads on a result topic are tensors.
MAX_ANSWER_BYTES = 64 * 1024
MAX_TRACE_CHARACTERS = 16 * 1024
