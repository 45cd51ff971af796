"""What the readers of Keras models have in common about a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_partition.model.source_errors import ModelSourceError

if TYPE_CHECKING:
    from edge_partition.model.model_kinds import ModelRequest


def refuse_signature(request: ModelRequest) -> None:
    """Refuse a signature for a Keras model.

    Raises:
        ModelSourceError: A signature was given.
    """
    if request.signature is not None:
        raise ModelSourceError(
            request.source, "is a Keras model, which has no signatures. Leave --signature out."
        )


def given_weights(request: ModelRequest) -> str:
    """Return the source of the weights of a model that keeps its own: ``seeded`` or ``trained``."""
    return "seeded" if request.weights == "seeded" else "trained"
