"""Topics outside the contract, or with another delivery than in the contract."""

from __future__ import annotations

from edge_core.contract.topics import Payload, Topic, TopicKind


def any_topic(text: str, *, qos: int = 1, retained: bool = False) -> Topic:
    """Return ``text`` as a topic with this delivery; return a topic of the contract unchanged."""
    if isinstance(text, Topic):
        return text
    return Topic(text, TopicKind(text, (), (), Payload.TENSORS, qos=qos, retained=retained))
