"""Errors of the client: unknown deployment, failed request, or outputs of another model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_core.errors import EdgePartitionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_core.contract.messages import StageTrace
    from edge_partition.client.result import Outcome

#: Error codes that the client sets itself. All other codes come from agents and the broker.
TIMEOUT = "timeout"
UNDEPLOYED = "undeployed"
REPLACED = "replaced"
CLOSED = "closed"


class UnknownDeploymentError(EdgePartitionError):
    """No deployment of this name is live.

    Attributes:
        deployment: The requested name.
        live: Names of the live deployments.
    """

    def __init__(self, deployment: str, live: Sequence[str]) -> None:
        self.deployment = deployment
        self.live = tuple(live)
        found = f"live deployments: {', '.join(live)}" if live else "nothing is deployed"
        super().__init__(
            f"No deployment {deployment!r} at this broker; {found}. Deploy a bundle with "
            "`edge-partition deploy BUILD`."
        )


class NotOpenError(EdgePartitionError):
    """A pipeline was used before it was opened, or after it was closed."""

    def __init__(self) -> None:
        super().__init__(
            "This pipeline is not open; use it in a `with` block, or call open() first."
        )


class OutputsError(EdgePartitionError):
    """The arrays given to ``answer`` or ``labels`` are not the model's outputs for one request."""


class RequestError(EdgePartitionError):
    """A request failed: a board answered with an error, or no answer came.

    Attributes:
        code: The agent's error code, or ``timeout``, ``undeployed``, ``replaced`` or ``closed``.
        trace: The stages that ran before the error.
        is_final: Whether later requests of this pipeline will fail too. This is true if the
            deployment was undeployed or replaced, the pipeline was closed, a state kept between
            requests was lost, the connection to the broker is lost, or all boards of a stage are
            offline.
    """

    def __init__(
        self,
        code: str,
        reason: str,
        trace: tuple[StageTrace, ...] = (),
        *,
        is_final: bool = False,
    ) -> None:
        self.code = code
        self.trace = trace
        self.is_final = is_final
        super().__init__(reason)


def is_timeout(outcome: Outcome) -> bool:
    """Return whether a request failed because no answer came in time."""
    return isinstance(outcome, RequestError) and outcome.code == TIMEOUT


def is_final(outcome: Outcome) -> bool:
    """Return whether later requests of the pipeline will fail too."""
    return isinstance(outcome, RequestError) and outcome.is_final
