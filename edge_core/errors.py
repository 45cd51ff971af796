"""Base classes of the errors of all packages.

Every error that a user may see derives from :class:`EdgePartitionError`. The text of an error is
one line with the problem, the expected value and the remedy. Subclasses have the facts as
attributes. Packages define further subclasses beside the code that raises the errors.
"""

from __future__ import annotations


class EdgePartitionError(Exception):
    """Base of all errors that this project raises on purpose; ``str(error)`` is one line."""


class BrokerUnreachableError(EdgePartitionError):
    """No broker answered.

    Attributes:
        url: The broker's address, without secrets.
        reason: Error of the socket or the TLS layer.
    """

    def __init__(self, url: str, reason: str) -> None:
        self.url = url
        self.reason = reason
        super().__init__(
            f"No broker at {url}: {reason}. Start one with `broker-config serve`, "
            "or name another broker with --broker."
        )


class BrokerRefusedError(EdgePartitionError):
    """A broker answered, and refused the connection or a subscription.

    Attributes:
        url: The broker's address, without secrets.
        reason: The MQTT 5 reason string (MQTT 5.0, section 3.2.2.2).
    """

    def __init__(self, url: str, reason: str) -> None:
        self.url = url
        self.reason = reason
        super().__init__(
            f"The broker at {url} refused access: {reason}. "
            "Check the user name, the password or certificate, and the broker's access list."
        )


class MessageTooLargeError(EdgePartitionError):
    """A message is larger than the broker accepts.

    Attributes:
        topic: Topic of the message.
        size_bytes: Size of the whole packet, in bytes.
        limit_bytes: The broker's Maximum Packet Size, in bytes.
    """

    def __init__(self, topic: str, size_bytes: int, limit_bytes: int) -> None:
        self.topic = topic
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes
        super().__init__(
            f"A message of {size_bytes:,} bytes for {topic} is over the broker's limit of "
            f"{limit_bytes:,} bytes. Raise the limit in the broker's configuration, or split the "
            "model at cuts with smaller tensors."
        )


class ManifestError(EdgePartitionError):
    """A manifest does not match the schema; the text names the field."""


class PayloadError(EdgePartitionError):
    """A payload does not match the manifest."""


class RuntimeUnavailableError(EdgePartitionError):
    """Neither ai-edge-litert nor tflite-runtime can be imported."""


class ModelLoadError(EdgePartitionError):
    """The TFLite runtime cannot load a model file."""
