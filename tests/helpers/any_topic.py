"""Topics that are none of the contract's, or that a test sends on as the contract would not."""

from __future__ import annotations

from edge_core.contract.topics import Payload, Topic, TopicKind


def any_topic(text: str, *, qos: int = 1, retained: bool = False) -> Topic:
    """Return ``text`` as a topic with this delivery; a topic of the contract as it is."""
    if isinstance(text, Topic):
        return text
    return Topic(text, TopicKind(text, (), (), Payload.TENSORS, qos=qos, retained=retained))
