"""What can be wrong with a MODEL argument that is no ``.tflite`` file."""

from __future__ import annotations

from edge_core.errors import EdgePartitionError


class ModelSourceError(EdgePartitionError):
    """The MODEL argument does not lead to a model that can be split.

    Attributes:
        source: The MODEL argument.
    """

    def __init__(self, source: str, reason: str) -> None:
        self.source = source
        super().__init__(f"{source}: {reason}")


class WeightsUnavailableError(ModelSourceError):
    """The weights cannot be had, or do not fit."""


class InputShapeError(ModelSourceError):
    """The model's inputs have no fixed shape, or cannot take the one that was given."""


class WrapError(EdgePartitionError):
    """An operation cannot become a layer, or a wrapped operation cannot be saved or loaded."""
