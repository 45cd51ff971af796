"""Bundle -> live on the boards, in two phases, or nothing changed.

Phase one: every board takes its files, checks, loads and tries them. Phase two: the manifest is
published, retained, and that is what makes the deployment live. A refusal in phase one undoes
phase one; a deployment that was live goes on untouched.
"""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edge_core.contract.manifest import Manifest
from edge_core.contract.messages import CommandError, decode_json
from edge_core.contract.topics import ONLINE
from edge_core.errors import EdgePartitionError, ManifestError
from edge_core.mqtt.agent_requests import AgentLostError, NoAnswerError
from edge_partition.boards.board_client import COMMAND_TIMEOUT_S, BoardClient, UnknownBoardError
from edge_partition.bundles.run_bundle import reference_payloads
from edge_partition.client.errors import UnknownDeploymentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from edge_core.contract.topics import Topic
    from edge_partition.bundles.bundle import Bundle

#: Loading and trying a large model on a slow board.
_LOAD_TIMEOUT_S = 300.0
_STATUS_TIMEOUT_S = 3.0
_GO_LIVE_TIMEOUT_S = 30.0


class DeploymentRefusedError(EdgePartitionError):
    """A board did not take its part; nothing changed.

    Attributes:
        device: The board.
        code: The agent's error code.
        reason: The agent's sentence.
    """

    def __init__(self, deployment: str, device: str, code: str, reason: str) -> None:
        self.device = device
        self.code = code
        self.reason = reason
        super().__init__(
            f"{deployment} is not deployed, board {device} refused: {reason} ({code}). "
            "Nothing was changed."
        )


@dataclass(frozen=True)
class LoadedStage:
    """What a board said of a stage it loaded.

    Attributes:
        device: The board.
        stage: The stage's index.
        load_ms: Reading and preparing the file.
        invoke_ms: One inference of the reference input.
        max_difference: From the host's outputs for that input; 0: the same bits.
        ram_bytes: The agent's resident memory with the stage loaded.
    """

    device: str
    stage: int
    load_ms: float
    invoke_ms: float
    max_difference: float
    ram_bytes: int


@dataclass(frozen=True)
class BoardStatus:
    """A board as the broker and its agent know it."""

    device: str
    online: bool
    profile: dict[str, Any] = field(default_factory=dict)
    deployments: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class FleetStatus:
    """Boards by name, and the manifests that are live."""

    boards: tuple[BoardStatus, ...]
    manifests: tuple[Manifest, ...]


class Deployer(BoardClient):
    """The host's hand on the fleet: deploy, undeploy, status. A context manager."""

    def deploy(
        self, bundle: Bundle, *, on_progress: Callable[[str, int, int], None] | None = None
    ) -> tuple[LoadedStage, ...]:
        """Make a bundle live on its boards.

        Args:
            bundle: What to deploy.
            on_progress: Called with (board, bytes it has, bytes it needs); from several threads.

        Raises:
            UnknownBoardError: A board of the bundle is not online; nothing changed.
            DeploymentRefusedError: A board refused; nothing changed.
        """
        manifest = bundle.manifest
        devices = sorted({name for stage in manifest.stages for name in stage.devices})
        online = self._online()
        missing = [device for device in devices if device not in online]
        if missing:
            raise UnknownBoardError(missing, online)
        before = self._retained(self._topics.manifest(manifest.deployment))
        files = _DeploymentFiles(bundle)
        try:
            with ThreadPoolExecutor(max_workers=min(16, len(devices))) as pool:
                # Boards may be many and their links one: the files go out side by side, and the
                # first refusal, in the boards' order, is the one reported.
                tries = [
                    pool.submit(self._prepare, device, files, on_progress) for device in devices
                ]
                loaded = [stage for attempt in tries for stage in attempt.result()]
            self._publish_manifest(manifest, devices, before)
        except BaseException:
            self._abort(manifest, devices)
            raise
        return tuple(sorted(loaded, key=lambda stage: (stage.stage, stage.device)))

    def undeploy(self, deployment: str, *, force: bool = False) -> None:
        """End a deployment: clear what is retained, have its boards delete it.

        Args:
            deployment: Its name.
            force: Also when a board of it is offline, which would then serve it again when it
                comes back.

        Raises:
            UnknownDeploymentError: Nothing live under this name.
            UnknownBoardError: A board of it is offline, and not ``force``.
        """
        manifests = self._manifests()
        online = self._online()
        if deployment in manifests:
            devices = {name for stage in manifests[deployment].stages for name in stage.devices}
        else:
            # A board that was away at an earlier undeploy may still hold its part.
            devices = {device for device in online if self._holds(device, deployment)}
            if not devices:
                raise UnknownDeploymentError(deployment, sorted(manifests))
        missing = sorted(devices - set(online))
        if missing and not force:
            raise UnknownBoardError(missing, online)
        self._connection.publish_and_wait(
            self._topics.manifest(deployment), b"", timeout_s=COMMAND_TIMEOUT_S
        )
        for device in sorted(devices & set(online)):
            # An agent that saw the manifest go has removed its part; one that did not is told.
            if self._holds(device, deployment):
                self._ask(device, {"command": "remove", "deployment": deployment})

    def status(self) -> FleetStatus:
        """Return what is online and what is live."""
        availability = self._retained(self._topics.availability("+"))
        profiles = self._retained(self._topics.profile("+"))
        boards = []
        for topic in sorted(availability):
            device = self._topics.name_in(topic)
            deployments: tuple[dict[str, Any], ...] = ()
            online = availability[topic] == ONLINE
            if online:
                try:
                    answer = self._ask(device, {"command": "status"}, _STATUS_TIMEOUT_S)
                    deployments = tuple(answer.get("deployments", ()))
                except (CommandError, NoAnswerError):
                    online = False
            profile = _profile(profiles.get(self._topics.profile(device), b"{}"))
            boards.append(BoardStatus(device, online, profile, deployments))
        return FleetStatus(tuple(boards), tuple(self._manifests().values()))

    # Phase one

    def _prepare(
        self,
        device: str,
        files: _DeploymentFiles,
        on_progress: Callable[[str, int, int], None] | None,
    ) -> list[LoadedStage]:
        manifest = files.bundle.manifest
        try:
            answer = self._ask(
                device,
                {
                    "command": "prepare",
                    "manifest": files.document,
                    "references": files.references(device),
                },
            )
            _check_needs(manifest, device, answer)
            wanted = {str(item["sha256"]): int(item["have_bytes"]) for item in answer["artifacts"]}
            total = sum(files.size_bytes(sha256) for sha256 in wanted)
            have = sum(wanted.values())
            for sha256, have_bytes in wanted.items():
                for sent in self._store(device, sha256, files.data(sha256), have_bytes):
                    have += sent
                    if on_progress is not None:
                        on_progress(device, have, total)
            answer = self._ask(
                device,
                {
                    "command": "load",
                    "deployment": manifest.deployment,
                    "generation": manifest.generation,
                },
                _LOAD_TIMEOUT_S,
            )
            return [
                LoadedStage(
                    device=device,
                    stage=int(stage["stage"]),
                    load_ms=float(stage["load_ms"]),
                    invoke_ms=float(stage["invoke_ms"]),
                    max_difference=float(stage["max_difference"]),
                    ram_bytes=int(stage["ram_bytes"]),
                )
                for stage in answer["stages"]
            ]
        except CommandError as error:
            raise DeploymentRefusedError(
                manifest.deployment, device, error.code, error.reason.rstrip(".")
            ) from None
        except NoAnswerError as error:
            raise _silent(manifest, error) from None
        except (KeyError, TypeError, ValueError):
            raise DeploymentRefusedError(
                manifest.deployment,
                device,
                "bad-answer",
                "its agent answers in a way this version doesn't know; install the same version",
            ) from None

    def _abort(self, manifest: Manifest, devices: Iterable[str]) -> None:
        for device in devices:
            try:
                self._ask(
                    device,
                    {
                        "command": "abort",
                        "deployment": manifest.deployment,
                        "generation": manifest.generation,
                    },
                    _STATUS_TIMEOUT_S,
                )
            except EdgePartitionError:
                # A board that can't be told drops what was never made live when it can.
                continue

    # Phase two

    def _publish_manifest(
        self, manifest: Manifest, devices: Sequence[str], before: dict[Topic, bytes]
    ) -> None:
        topic = self._topics.manifest(manifest.deployment)
        self._connection.publish_and_wait(
            topic, manifest.to_json().encode(), timeout_s=COMMAND_TIMEOUT_S
        )
        deadline = time.monotonic() + _GO_LIVE_TIMEOUT_S
        waiting = list(devices)
        try:
            while waiting:
                waiting = [device for device in waiting if not self._serves(device, manifest)]
                if waiting and time.monotonic() > deadline:
                    raise DeploymentRefusedError(
                        manifest.deployment,
                        waiting[0],
                        "not-live",
                        f"it loaded its part and did not start serving it within "
                        f"{_GO_LIVE_TIMEOUT_S:g} s",
                    )
                if waiting:
                    time.sleep(0.05)
        except BaseException:
            self._connection.publish_and_wait(topic, before.get(topic, b""))
            raise

    def _serves(self, device: str, manifest: Manifest) -> bool:
        try:
            answer = self._ask(device, {"command": "status"}, _STATUS_TIMEOUT_S)
        except AgentLostError as error:
            raise _silent(manifest, error) from None
        except (CommandError, NoAnswerError):
            return False
        return any(
            item.get("deployment") == manifest.deployment
            and item.get("generation") == manifest.generation
            and item.get("state") == "live"
            for item in answer.get("deployments", ())
        )

    # Asking

    def _holds(self, device: str, deployment: str) -> bool:
        held = self._ask(device, {"command": "status"}).get("deployments", ())
        return any(item.get("deployment") == deployment for item in held)

    def _manifests(self) -> dict[str, Manifest]:
        manifests = {}
        found = self._retained(self._topics.manifest("+"))
        for topic in sorted(found):
            try:
                manifests[self._topics.name_in(topic)] = Manifest.from_json(found[topic])
            except ManifestError:
                continue
        return manifests


class _DeploymentFiles:
    """A bundle's files and reference tensors by SHA-256, read when a board wants them."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._payloads = reference_payloads(bundle)
        self._payload_ids = [hashlib.sha256(payload).hexdigest() for payload in self._payloads]
        self._by_id = dict(zip(self._payload_ids, self._payloads, strict=True))
        self._stages = {stage.sha256: stage for stage in bundle.manifest.stages}
        self.document = decode_json(bundle.manifest.to_json().encode())

    def references(self, device: str) -> list[dict[str, Any]]:
        return [
            {
                "stage": stage.index,
                "input": self._reference(stage.index),
                "output": self._reference(stage.index + 1),
            }
            for stage in self.bundle.manifest.stages_of(device)
        ]

    def _reference(self, boundary: int) -> dict[str, Any]:
        return {
            "sha256": self._payload_ids[boundary],
            "size_bytes": len(self._payloads[boundary]),
        }

    def size_bytes(self, sha256: str) -> int:
        if sha256 in self._by_id:
            return len(self._by_id[sha256])
        return self._stages[sha256].size_bytes

    def data(self, sha256: str) -> bytes:
        if sha256 in self._by_id:
            return self._by_id[sha256]
        return self.bundle.stage_file(self._stages[sha256]).read_bytes()


def _check_needs(manifest: Manifest, device: str, answer: dict[str, Any]) -> None:
    """Refuse an agent from before ``needs``: it would serve the manifest and answer wrongly."""
    unheard = set(manifest.needs).difference(answer.get("needs", ()))
    if unheard:
        raise DeploymentRefusedError(
            manifest.deployment,
            device,
            "unknown-need",
            f"its agent is too old for a model that needs {', '.join(sorted(unheard))}; install "
            "this version of edge-partition on it",
        )


def _silent(manifest: Manifest, error: NoAnswerError) -> DeploymentRefusedError:
    return DeploymentRefusedError(
        manifest.deployment, error.device, "no-answer", str(error).rstrip(".")
    )


def _profile(payload: bytes) -> dict[str, Any]:
    try:
        return decode_json(payload)
    except CommandError:
        return {}
