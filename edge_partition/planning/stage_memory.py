"""Predict the memory of an agent that serves a stage.

The memory is the sum of four terms:

- The agent itself, with its interpreter, numpy and MQTT client: 53 to 60 MiB of resident memory.
  The agents were measured on x86-64. They served MobileNetV3Large, EfficientNetV2B0 and ResNet50,
  each in 1, 2 and 4 stages. The other three terms were subtracted from the measured memory.
- XNNPACK's packed copy of the weights. The model's file itself takes no memory, because the agent
  releases the mapped file after XNNPACK has packed the weights.
- The arena with the activations.
- The messages: the inputs and outputs of a few requests. The first stage also holds the inputs of
  all requests that a client sends at once, up to the agent's receive maximum.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_core.contract.messages import RECEIVE_MAXIMUM

#: Resident memory of an agent that serves requests, without the memory of its stages.
AGENT_RAM_BYTES = 56 << 20
#: Number of requests whose inputs and outputs an agent holds at full load, with four requests in
#: flight per board.
_REQUESTS_HELD = 3
#: Number of requests whose inputs the first stage's agent holds: the agent's receive maximum, and 5
#: for temporary copies of large messages. In 12 agents, these copies took the memory of 5.6 inputs
#: on average (1 to 8 MiB).
_FIRST_REQUESTS_HELD = RECEIVE_MAXIMUM + 5


def stage_ram_bytes(
    *, start: Any, weight_bytes: Any, activation_bytes: Any, in_bytes: Any, out_bytes: Any
) -> Any:
    """Return the resident memory of an agent that serves one stage, in bytes.

    Each argument is an integer, or an array for several stages. The arrays must broadcast.

    Args:
        start: Index of the stage's first operator; 0 for the first stage.
        weight_bytes: Size of the stage's weights, in bytes.
        activation_bytes: Largest total size of the activations that are in memory at the same time,
            in bytes.
        in_bytes: Size of one request's inputs, in bytes.
        out_bytes: Size of one request's outputs, in bytes.
    """
    inputs_held = np.where(start == 0, _FIRST_REQUESTS_HELD, _REQUESTS_HELD)
    message_bytes = inputs_held * in_bytes + _REQUESTS_HELD * out_bytes
    return AGENT_RAM_BYTES + weight_bytes + activation_bytes + message_bytes
