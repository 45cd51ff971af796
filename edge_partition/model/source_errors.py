"""Errors about MODEL arguments, and about the options for reading a model."""

from __future__ import annotations

from edge_core.errors import EdgePartitionError


class ModelArgumentError(EdgePartitionError):
    """A ``.tflite`` file cannot be used, or an option does not apply to the MODEL argument."""


class ModelSourceError(EdgePartitionError):
    """A model that needs conversion cannot be loaded, or cannot be split.

    Attributes:
        source: The MODEL argument.
    """

    def __init__(self, source: str, reason: str) -> None:
        self.source = source
        super().__init__(f"{source}: {reason}")


class WeightsUnavailableError(ModelSourceError):
    """The weights cannot be read or downloaded, or do not fit the model."""


class InputShapeError(ModelSourceError):
    """An input of the model has open dimensions, or a given shape does not fit."""


class WrapError(EdgePartitionError):
    """An operation cannot become a layer, or a wrapped operation cannot be saved or loaded."""
