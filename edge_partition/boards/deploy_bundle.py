"""Deploy a bundle in two phases. If a board refuses, no live deployment changes.

Phase one: every board receives, checks, loads and tries its files. Phase two: the manifest is
published as a retained message, which makes the deployment live. If a board refuses in either
phase, both phases are undone. A deployment that was live before stays live.
"""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_core.contract.messages import CommandError
from edge_core.errors import EdgePartitionError
from edge_core.mqtt.agent_requests import AgentLostError, NoAnswerError
from edge_partition.boards.board_client import COMMAND_TIMEOUT_S, UnknownBoardError
from edge_partition.boards.deployment_files import DeploymentFiles
from edge_partition.boards.fleet_status import STATUS_TIMEOUT_S, FleetReader
from edge_partition.client.errors import UnknownDeploymentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from edge_core.contract.manifest import Manifest
    from edge_core.contract.topics import Topic
    from edge_partition.bundles.bundle import Bundle

    _OnProgress = Callable[[str, int, int], None]

#: Longest wait for a board that loads and tries its stages, in seconds: large model, slow board.
_LOAD_TIMEOUT_S = 300.0
_GO_LIVE_TIMEOUT_S = 30.0
_POLL_S = 0.05


class DeploymentRefusedError(EdgePartitionError):
    """A board refused its stages or did not answer. No live deployment changed.

    Attributes:
        device: The board.
        code: The agent's error code, or ``no-answer``, ``bad-answer``, ``unknown-need`` or
            ``not-live``.
        reason: The cause in a sentence without a full stop.
    """

    def __init__(self, deployment: str, device: str, code: str, reason: str) -> None:
        self.device = device
        self.code = code
        self.reason = reason
        super().__init__(
            f"Board {device} refused deployment {deployment}: {reason} ({code}). "
            "Nothing was changed."
        )


@dataclass(frozen=True)
class LoadedStage:
    """A board's report on a stage that it loaded.

    Attributes:
        device: The board.
        stage: The stage's index.
        load_ms: Time to read and prepare the stage's file, in milliseconds.
        invoke_ms: Time of one inference on the reference input, in milliseconds.
        max_difference: Largest difference between the board's and the host's outputs for the
            reference input; 0: all values are equal.
        ram_bytes: Resident memory of the agent after the stage was loaded, in bytes.
    """

    device: str
    stage: int
    load_ms: float
    invoke_ms: float
    max_difference: float
    ram_bytes: int


class Deployer(FleetReader):
    """A connection that deploys and undeploys bundles, and reads the status. A context manager."""

    def deploy(
        self, bundle: Bundle, *, on_progress: Callable[[str, int, int], None] | None = None
    ) -> tuple[LoadedStage, ...]:
        """Make a bundle live on its boards.

        Args:
            bundle: The bundle.
            on_progress: Called with (board, bytes received, bytes in all), from several threads.

        Returns:
            A report for each stage and board, sorted by stage, then by board.

        Raises:
            UnknownBoardError: A board of the bundle is not online. No live deployment changed.
            DeploymentRefusedError: A board refused or did not answer. No live deployment changed.
        """
        manifest = bundle.manifest
        devices = _boards_of(manifest)
        self._check_online(devices)
        before = self._retained(self._topics.manifest(manifest.deployment))
        files = DeploymentFiles(bundle)
        try:
            loaded = self._prepare_all(devices, files, on_progress)
            self._go_live(manifest, devices, before)
        except BaseException:
            self._abort(manifest, devices)
            raise
        return tuple(sorted(loaded, key=lambda stage: (stage.stage, stage.device)))

    def undeploy(self, deployment: str, *, force: bool = False) -> None:
        """End a deployment: clear its retained manifest and have the boards delete its files.

        Args:
            deployment: The deployment's name.
            force: Whether to undeploy even if one of the deployment's boards is offline. An offline
                board keeps its files. The board serves the deployment again when it is back online.

        Raises:
            UnknownDeploymentError: No deployment of this name is live.
            UnknownBoardError: One of the deployment's boards is offline, and ``force`` is false.
        """
        manifests = self._manifests()
        online = self._online()
        if deployment in manifests:
            devices = set(_boards_of(manifests[deployment]))
        else:
            # A board that was offline during an earlier undeploy may still have its files.
            devices = {device for device in online if self._holds(device, deployment)}
            if not devices:
                raise UnknownDeploymentError(deployment, sorted(manifests))
        missing = sorted(devices - set(online))
        if missing and not force:
            raise UnknownBoardError(
                missing,
                online,
                advice="use --force: the board keeps its part until you undeploy again",
            )
        self._publish_manifest(deployment, b"", timeout_s=COMMAND_TIMEOUT_S)
        for device in sorted(devices & set(online)):
            # An agent deletes its files when the manifest is cleared. An agent that missed this
            # message gets a command.
            if self._holds(device, deployment):
                self._ask(device, {"command": "remove", "deployment": deployment})

    def _check_online(self, devices: Sequence[str]) -> None:
        online = self._online()
        missing = [device for device in devices if device not in online]
        if missing:
            raise UnknownBoardError(missing, online)

    # Phase one

    def _prepare_all(
        self, devices: Sequence[str], files: DeploymentFiles, on_progress: _OnProgress | None
    ) -> list[LoadedStage]:
        """Prepare all boards at the same time, because each board may have a slow link.

        If several boards refuse, the error is about the one that comes first in ``devices``.
        """
        with ThreadPoolExecutor(max_workers=min(16, len(devices))) as pool:
            attempts = [
                pool.submit(self._prepare, device, files, on_progress) for device in devices
            ]
            return [stage for attempt in attempts for stage in attempt.result()]

    def _prepare(
        self, device: str, files: DeploymentFiles, on_progress: _OnProgress | None
    ) -> list[LoadedStage]:
        """Send a board its missing files, then have the board load and try its stages."""
        manifest = files.bundle.manifest
        with _refusals(manifest, device):
            command = {
                "command": "prepare",
                "manifest": files.document,
                "references": files.references(device),
            }
            answer = self._ask(device, command)
            _check_needs(manifest, device, answer)
            wanted = {str(item["sha256"]): int(item["have_bytes"]) for item in answer["artifacts"]}
            self._send_files(device, files, wanted, on_progress)
            answer = self._ask(device, _command("load", manifest), _LOAD_TIMEOUT_S)
            return [_read_loaded(device, stage) for stage in answer["stages"]]

    def _send_files(
        self,
        device: str,
        files: DeploymentFiles,
        wanted: dict[str, int],
        on_progress: _OnProgress | None,
    ) -> None:
        """Send a board the missing bytes of the files in ``wanted``.

        The keys of ``wanted`` are the SHA-256 of the files. A value is the number of bytes of the
        file that the board already has.
        """
        total = sum(files.size_bytes(sha256) for sha256 in wanted)
        have = sum(wanted.values())
        for sha256, have_bytes in wanted.items():
            for sent in self._store(device, sha256, files.data(sha256), have_bytes):
                have += sent
                if on_progress is not None:
                    on_progress(device, have, total)

    def _abort(self, manifest: Manifest, devices: Iterable[str]) -> None:
        for device in devices:
            # A board that misses the command keeps its stages until the next `prepare`.
            with contextlib.suppress(EdgePartitionError):
                self._ask(device, _command("abort", manifest), STATUS_TIMEOUT_S)

    # Phase two

    def _go_live(
        self, manifest: Manifest, devices: Sequence[str], before: dict[Topic, bytes]
    ) -> None:
        """Publish the manifest and wait until every board serves the deployment.

        If the wait fails, restore the earlier state: publish the manifest in ``before`` again, or
        clear the retained manifest if ``before`` has none.
        """
        payload = manifest.to_json().encode()
        self._publish_manifest(manifest.deployment, payload, timeout_s=COMMAND_TIMEOUT_S)
        try:
            self._wait_until_live(manifest, devices)
        except BaseException:
            topic = self._topics.manifest(manifest.deployment)
            self._publish_manifest(manifest.deployment, before.get(topic, b""))
            raise

    def _wait_until_live(self, manifest: Manifest, devices: Sequence[str]) -> None:
        deadline = time.monotonic() + _GO_LIVE_TIMEOUT_S
        waiting = list(devices)
        while waiting := [device for device in waiting if not self._serves(device, manifest)]:
            if time.monotonic() > deadline:
                reason = (
                    "it loaded its stages and did not start serving them within "
                    f"{_GO_LIVE_TIMEOUT_S:g} s"
                )
                raise DeploymentRefusedError(manifest.deployment, waiting[0], "not-live", reason)
            time.sleep(_POLL_S)

    def _serves(self, device: str, manifest: Manifest) -> bool:
        try:
            deployments = self._deployments_on(device, STATUS_TIMEOUT_S)
        except AgentLostError as error:
            raise _no_answer(manifest, error) from None
        except (CommandError, NoAnswerError):
            return False
        return any(
            item.get("deployment") == manifest.deployment
            and item.get("generation") == manifest.generation
            and item.get("state") == "live"
            for item in deployments
        )

    def _publish_manifest(
        self, deployment: str, payload: bytes, *, timeout_s: float = 10.0
    ) -> None:
        """Publish a retained manifest; an empty payload clears the retained manifest."""
        self._connection.publish_and_wait(
            self._topics.manifest(deployment), payload, timeout_s=timeout_s
        )


def _boards_of(manifest: Manifest) -> list[str]:
    return sorted({name for stage in manifest.stages for name in stage.devices})


def _command(name: str, manifest: Manifest) -> dict[str, Any]:
    """Return the command ``name`` for the deployment and generation in a manifest."""
    return {
        "command": name,
        "deployment": manifest.deployment,
        "generation": manifest.generation,
    }


def _read_loaded(device: str, stage: dict[str, Any]) -> LoadedStage:
    return LoadedStage(
        device=device,
        stage=int(stage["stage"]),
        load_ms=float(stage["load_ms"]),
        invoke_ms=float(stage["invoke_ms"]),
        max_difference=float(stage["max_difference"]),
        ram_bytes=int(stage["ram_bytes"]),
    )


def _check_needs(manifest: Manifest, device: str, answer: dict[str, Any]) -> None:
    """Raise an error if an agent's answer does not confirm all needs of the manifest.

    An agent that does not support one of the needs would compute wrong results.
    """
    unheard = set(manifest.needs).difference(answer.get("needs", ()))
    if unheard:
        raise DeploymentRefusedError(
            manifest.deployment,
            device,
            "unknown-need",
            f"its agent is too old and does not support {', '.join(sorted(unheard))}, which "
            "the deployment needs; install this version of edge-partition on the board",
        )


@contextlib.contextmanager
def _refusals(manifest: Manifest, device: str) -> Iterator[None]:
    """Raise each error of a board in the ``with`` block as a :class:`DeploymentRefusedError`.

    Raises:
        DeploymentRefusedError: The board refused, did not answer, or gave an unreadable answer.
    """
    try:
        yield
    except CommandError as error:
        raise DeploymentRefusedError(
            manifest.deployment, device, error.code, error.reason.rstrip(".")
        ) from None
    except NoAnswerError as error:
        raise _no_answer(manifest, error) from None
    except (KeyError, TypeError, ValueError):
        raise DeploymentRefusedError(
            manifest.deployment,
            device,
            "bad-answer",
            "its agent's answer can't be read; install this version of edge-partition on the board",
        ) from None


def _no_answer(manifest: Manifest, error: NoAnswerError) -> DeploymentRefusedError:
    return DeploymentRefusedError(
        manifest.deployment, error.device, "no-answer", str(error).rstrip(".")
    )
