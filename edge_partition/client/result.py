"""The result of one request: its outputs, latency and trace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np

    from edge_core.contract.messages import StageTrace
    from edge_core.errors import EdgePartitionError

Outputs: TypeAlias = "np.ndarray | dict[str, np.ndarray]"
#: The end of a request: its result, or the error that it failed with.
Outcome: TypeAlias = "Result | EdgePartitionError"


@dataclass(frozen=True)
class Result:
    """One request's outputs and times.

    Attributes:
        outputs: Arrays by output name, in the model's order: views of the received payload.
        latency_ms: Time from submitting the request to the arrival of its result, in milliseconds.
        trace: Queueing and inference times of each stage.
        picture_size: Width and height of the input picture, in pixels, if the model detects
            objects; else None. :meth:`Pipeline.answer` gives boxes in this picture's pixels.
    """

    outputs: dict[str, np.ndarray]
    latency_ms: float
    trace: tuple[StageTrace, ...]
    picture_size: tuple[int, int] | None = None
