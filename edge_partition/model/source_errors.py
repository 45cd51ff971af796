"""Errors of MODEL arguments."""

from __future__ import annotations

from edge_core.errors import EdgePartitionError


class ModelArgumentError(EdgePartitionError):
    """A ``.tflite`` file cannot be used, or an option does not apply to the MODEL argument."""


class ModelSourceError(EdgePartitionError):
    """A MODEL argument that needs conversion does not give a model that can be split.

    Attributes:
        source: The MODEL argument.
    """

    def __init__(self, source: str, reason: str) -> None:
        self.source = source
        super().__init__(f"{source}: {reason}")


class WeightsUnavailableError(ModelSourceError):
    """The weights cannot be read or fetched, or do not fit."""


class InputShapeError(ModelSourceError):
    """An input of the model has no fixed shape, or the given shape does not fit."""


class WrapError(EdgePartitionError):
    """An operation cannot become a layer, or a wrapped operation cannot be saved or loaded."""
