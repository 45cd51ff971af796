"""The errors of all four packages.

Every error a user may meet derives from :class:`EdgePartitionError`, and its text is one line that
says what was wrong, what was expected and what to do. Leaves carry their facts as attributes.
Packages add their own leaves beside the code that raises them.
"""

from __future__ import annotations


class EdgePartitionError(Exception):
    """Base of every error this project raises on purpose; ``str(error)`` is one line."""


class BrokerUnreachableError(EdgePartitionError):
    """No broker answered.

    Attributes:
        url: The broker's address, without secrets.
        reason: What the socket or the TLS layer said.
    """

    def __init__(self, url: str, reason: str) -> None:
        self.url = url
        self.reason = reason
        super().__init__(
            f"No broker at {url}: {reason}. Start one with `broker-config serve`, "
            "or name another with --broker."
        )


class BrokerRefusedError(EdgePartitionError):
    """A broker answered and refused the connection.

    Attributes:
        url: The broker's address, without secrets.
        reason: The MQTT 5 reason string (MQTT 5.0, section 3.2.2.2).
    """

    def __init__(self, url: str, reason: str) -> None:
        self.url = url
        self.reason = reason
        super().__init__(
            f"The broker at {url} refused the connection: {reason}. "
            "Check the user name, the password or certificate, and the broker's access list."
        )


class MessageTooLargeError(EdgePartitionError):
    """A message is larger than the broker accepts.

    Attributes:
        topic: Where it was to go.
        size_bytes: The whole packet's size.
        limit_bytes: The broker's Maximum Packet Size.
    """

    def __init__(self, topic: str, size_bytes: int, limit_bytes: int) -> None:
        self.topic = topic
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes
        super().__init__(
            f"A message of {size_bytes:,} bytes for {topic} is over the broker's limit of "
            f"{limit_bytes:,} bytes. Raise max_packet_size in the broker, or cut where fewer "
            "bytes cross."
        )


class ManifestError(EdgePartitionError):
    """A manifest is not what the schema says; the text names the field."""


class PayloadError(EdgePartitionError):
    """Tensors on the wire do not match the manifest."""


class RuntimeUnavailableError(EdgePartitionError):
    """Neither ai-edge-litert nor tflite-runtime can be imported."""


class ModelLoadError(EdgePartitionError):
    """The TFLite runtime does not take a model file."""
