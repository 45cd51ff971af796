"""Every topic, who sends it, and how it is delivered (DESIGN, "Topics").

| topic                              | sent by            | QoS | retained | payload              |
|------------------------------------|--------------------|-----|----------|----------------------|
| device/{device}/availability       | agent, and its will| 1   | yes      | ``online``/``offline``|
| device/{device}/profile            | agent              | 1   | yes      | JSON                 |
| device/{device}/stats              | agent              | 0   | no       | JSON                 |
| device/{device}/command            | host               | 1   | no       | JSON, answered       |
| deployment/{deployment}/manifest   | host               | 1   | yes      | the live manifest    |
| deployment/{deployment}/stage/{i}  | client, agent      | 1   | no       | tensors              |
| client/{client}/result             | last stage, agent  | 1   | no       | tensors, or an error |
| client/{client}/trace              | client             | 0   | no       | JSON                 |
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from edge_core.errors import EdgePartitionError

DEFAULT_PREFIX = "edge/v1"

ONLINE = b"online"
OFFLINE = b"offline"

_PREFIX_PATTERN = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*")


class TopicPrefixError(EdgePartitionError):
    """A topic prefix that MQTT or our topic patterns can't carry."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        super().__init__(
            f"The topic prefix {prefix!r} is not usable; expected levels of letters, digits, "
            f"'.', '_' and '-' joined by '/', such as {DEFAULT_PREFIX!r}."
        )


@dataclass(frozen=True)
class Topics:
    """The topics under one prefix.

    Attributes:
        prefix: Leading levels, without a slash at either end.
    """

    prefix: str = DEFAULT_PREFIX

    def __post_init__(self) -> None:
        if not _PREFIX_PATTERN.fullmatch(self.prefix):
            raise TopicPrefixError(self.prefix)

    def availability(self, device: str) -> str:
        """``online`` or ``offline``, retained; ``+`` for every device."""
        return f"{self.prefix}/device/{device}/availability"

    def profile(self, device: str) -> str:
        """Hardware, runtime, measured speed, free memory; retained."""
        return f"{self.prefix}/device/{device}/profile"

    def stats(self, device: str) -> str:
        """Counts, times and load, every few seconds."""
        return f"{self.prefix}/device/{device}/stats"

    def command(self, device: str) -> str:
        """What the host asks of an agent."""
        return f"{self.prefix}/device/{device}/command"

    def manifest(self, deployment: str) -> str:
        """The manifest that is live, retained; empty when the deployment is gone."""
        return f"{self.prefix}/deployment/{deployment}/manifest"

    def stage(self, deployment: str, index: int) -> str:
        """A stage's inputs."""
        return f"{self.prefix}/deployment/{deployment}/stage/{index}"

    def stage_subscription(self, deployment: str, index: int, replicas: int) -> str:
        """Return the filter an agent subscribes to: shared where a stage has replicas.

        MQTT 5.0, section 4.8.2: each message of a shared subscription goes to one subscriber.
        """
        topic = self.stage(deployment, index)
        return f"$share/{deployment}-{index}/{topic}" if replicas > 1 else topic

    def result(self, client: str) -> str:
        """Where a client gets its results and its answers to commands."""
        return f"{self.prefix}/client/{client}/result"

    def trace(self, client: str) -> str:
        """What one of a client's recent requests took, in its own measure."""
        return f"{self.prefix}/client/{client}/trace"

    def name_in(self, topic: str) -> str:
        """Return the device, deployment or client that ``topic`` (under this prefix) names."""
        return topic[len(self.prefix) :].split("/")[2]
