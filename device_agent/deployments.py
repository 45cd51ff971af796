"""The deployments of one board as a pure state machine.

```
prepare -> incoming -> load -> prepared -> its manifest is live    -> live
                                           another manifest is live -> draining for 10 s -> gone
```

The module uses no file, clock or thread: times are arguments, and
:class:`~device_agent.locked_deployments.LockedDeployments` admits one thread at a time. Events are
methods that change the state. Decisions are methods that read the state: the requests that the
board answers (:meth:`Deployments.routes`), the topics to subscribe to, the files to keep.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from device_agent.artifact_store import Artifact
    from device_agent.assignment import Assignment
    from device_agent.load_stage import LoadedStage
    from edge_core.contract.manifest import Manifest

#: Time for which a generation still answers requests after the next one went live, in seconds.
DRAIN_S = 10.0
#: Number of deployments whose last refusal is kept, and number of characters of a refusal's reason.
_MAX_REFUSALS = 8
_MAX_REASON_CHARACTERS = 200


@dataclass(frozen=True)
class Route:
    """The loaded stages that answer the requests on one stage topic.

    Attributes:
        live_generation: Generation that answers a request without a generation; None: no
            generation is live.
        stages: Stages loaded on this board, by generation.
        elsewhere: Generations whose stage other boards run. This board does not answer their
            requests.
    """

    live_generation: str | None
    stages: Mapping[str, LoadedStage]
    elsewhere: frozenset[str]

    @property
    def serves(self) -> str | None:
        """The loaded generation that answers: the live one, else a draining one, else None.

        The generation in the broker's manifest does not count unless this board has loaded it.
        """
        if self.live_generation in self.stages:
            return self.live_generation
        return next(iter(self.stages), None)


@dataclass(frozen=True)
class StageTopics:
    """The topics of one stage to which this board subscribes.

    Attributes:
        sharers: Number of boards that share the topic for requests without a route; 0: the board
            does not subscribe to this topic.
        is_own: Whether the board subscribes to its own topic.
        is_replicated: Whether other boards serve the stage too.
    """

    sharers: int
    is_own: bool
    is_replicated: bool = False


@dataclass(frozen=True)
class Generation:
    """One generation of a deployment, loaded on this board."""

    assignment: Assignment
    loaded: tuple[LoadedStage, ...]

    @property
    def id(self) -> str:
        """Name of the generation."""
        return self.assignment.manifest.generation


@dataclass
class _Entry:
    """One deployment.

    Attributes:
        incoming: Generation whose files the host is sending.
        prepared: Generation that is loaded and waits for its manifest.
        live: Generation that answers requests.
        draining: Previous generations that still answer, each with the end of its draining time.
        seen: Last manifest that the broker sent.
        previous: Manifest before ``seen``, with the end of its draining time.
        confirmed: Whether the broker sent a manifest since the last connect.
    """

    incoming: Assignment | None = None
    prepared: Generation | None = None
    live: Generation | None = None
    draining: list[tuple[Generation, float]] = field(default_factory=list)
    seen: Manifest | None = None
    previous: tuple[Manifest, float] | None = None
    confirmed: bool = False

    def generations(self) -> list[Generation]:
        """Return the loaded generations in their order of precedence for a stage's topic."""
        held = [self.live, *(item for item, _ in self.draining), self.prepared]
        return [item for item in held if item is not None]

    def assignments(self) -> list[Assignment]:
        """Return the assignments of the loaded generations and of the incoming one."""
        incoming = [] if self.incoming is None else [self.incoming]
        return [*(held.assignment for held in self.generations()), *incoming]

    def follow(self, manifest: Manifest, now_s: float) -> None:
        """Make the generation of ``manifest`` live if loaded; the previous generation drains."""
        known = self.seen or (self.live and self.live.assignment.manifest)
        if known and known.generation != manifest.generation:
            self.previous = (known, now_s + DRAIN_S)
        self.seen = manifest
        if self.live is not None and self.live.id == manifest.generation:
            return
        if self.live is not None:
            self.draining.append((self.live, now_s + DRAIN_S))
            self.live = None
        if self.prepared is not None and self.prepared.id == manifest.generation:
            self.live, self.prepared = self.prepared, None
            return
        for held in self.draining:
            # After a roll-back, the generation of the manifest may still be draining.
            if held[0].id == manifest.generation:
                self.draining.remove(held)
                self.live = held[0]
                return


@dataclass(frozen=True)
class Refusal:
    """The reason for which this board refused its part of a deployment.

    Attributes:
        deployment: Name of the deployment.
        generation: Name of the generation; None: unknown.
        code: Cause, for programs.
        reason: Cause in a sentence, for people.
        time_s: Time of the refusal, in seconds since the epoch.
    """

    deployment: str
    generation: str | None
    code: str
    reason: str
    time_s: float


class Deployments:
    """The deployments of this board. Not thread-safe."""

    def __init__(self, device: str) -> None:
        """Start without deployments.

        Args:
            device: This board's name in manifests.
        """
        self._device = device
        self._entries: dict[str, _Entry] = {}
        #: Last refusal by deployment, the oldest refusal first.
        self._refusals: dict[str, Refusal] = {}

    # Events

    def follow_manifest(self, deployment: str, manifest: Manifest | None, now_s: float) -> bool:
        """Follow the deployment's retained manifest; None: the manifest was cleared.

        ``now_s`` is the time on the monotonic clock, in seconds.

        Returns:
            Whether anything changed.
        """
        entry = self._entries.get(deployment)
        if entry is None:
            return False
        entry.confirmed = True
        before = (entry.live, entry.seen and entry.seen.generation)
        if manifest is None:
            entry.live = entry.seen = entry.previous = None
            entry.draining.clear()
        else:
            entry.follow(manifest, now_s)
        return before != (entry.live, entry.seen and entry.seen.generation)

    def begin_prepare(self, deployment: str) -> None:
        """Drop the prepared and the incoming generation, to free their memory."""
        entry = self._entries.setdefault(deployment, _Entry())
        entry.prepared = entry.incoming = None

    def expect_files(self, assignment: Assignment) -> None:
        """Make an assignment the incoming one; the host sends the assignment's files next."""
        self._entries[assignment.manifest.deployment].incoming = assignment

    def finish_load(self, generation: Generation, now_s: float) -> None:
        """Make a loaded generation live if the manifest has already arrived, else prepared."""
        manifest = generation.assignment.manifest
        entry = self._entries[manifest.deployment]
        self._refusals.pop(manifest.deployment, None)
        entry.incoming = None
        if entry.live is None or entry.live.id != generation.id:
            entry.prepared = generation
        if entry.seen is not None and entry.seen.generation == generation.id:
            entry.follow(entry.seen, now_s)

    def abort(self, deployment: str, generation: str) -> None:
        """Drop a generation that is incoming or prepared."""
        entry = self._entries.get(deployment)
        if entry is None:
            return
        if entry.incoming and entry.incoming.manifest.generation == generation:
            entry.incoming = None
        if entry.prepared and entry.prepared.id == generation:
            entry.prepared = None

    def remove(self, deployment: str) -> bool:
        """Drop a deployment; return whether the board had it."""
        self._refusals.pop(deployment, None)
        return self._entries.pop(deployment, None) is not None

    def drop_empty(self, deployment: str) -> None:
        """Drop a deployment without a loaded or incoming generation."""
        entry = self._entries.get(deployment)
        if entry is not None and not entry.assignments():
            del self._entries[deployment]

    def restore(
        self, deployment: str, *, live: Generation | None, prepared: Generation | None
    ) -> None:
        """Add the generations that an earlier process of this agent saved."""
        if live is not None or prepared is not None:
            self._entries[deployment] = _Entry(live=live, prepared=prepared)

    def expect_manifests(self) -> None:
        """Note that the broker will send its retained manifests again after a connect."""
        for entry in self._entries.values():
            entry.confirmed = False

    def expire(self, now_s: float) -> bool:
        """Drop the generations that have drained; return whether anything changed."""
        changed = False
        for entry in self._entries.values():
            kept = [held for held in entry.draining if held[1] > now_s]
            changed |= len(kept) < len(entry.draining)
            entry.draining = kept
            if entry.previous is not None and entry.previous[1] <= now_s:
                entry.previous = None
                changed = True
        return changed

    def note_refusal(self, refusal: Refusal) -> None:
        """Keep a refusal until the board loads a generation of the deployment."""
        self._refusals.pop(refusal.deployment, None)
        while len(self._refusals) >= _MAX_REFUSALS:
            del self._refusals[next(iter(self._refusals))]
        self._refusals[refusal.deployment] = refusal

    # Decisions

    def names(self) -> set[str]:
        """Return the deployments whose manifests this board follows."""
        return set(self._entries)

    def live_names(self) -> list[str]:
        """Return the deployments that this board serves."""
        return sorted(name for name, entry in self._entries.items() if entry.live)

    def live_generation(self, deployment: str) -> str | None:
        """Return the live generation of a deployment; None: no generation is live."""
        entry = self._entries.get(deployment)
        return entry.live.id if entry and entry.live else None

    def routes(self) -> dict[tuple[str, int], Route]:
        """Return the route of each stage topic, by deployment and stage index."""
        routes: dict[tuple[str, int], Route] = {}
        for name, entry in self._entries.items():
            manifests = [entry.seen, entry.previous and entry.previous[0]]
            live_manifest = entry.seen or (entry.live and entry.live.assignment.manifest)
            stages: dict[int, dict[str, LoadedStage]] = {}
            for held in entry.generations():
                for loaded in held.loaded:
                    of_index = stages.setdefault(loaded.stage.index, {})
                    if held is not entry.prepared:
                        of_index.setdefault(held.id, loaded)
            for index, by_generation in stages.items():
                routes[name, index] = Route(
                    live_manifest.generation if live_manifest else None,
                    by_generation,
                    frozenset(
                        manifest.generation
                        for manifest in manifests
                        if manifest is not None
                        and index not in {own.index for own in manifest.stages_of(self._device)}
                    ),
                )
        return routes

    def stage_topics(self) -> dict[tuple[str, int], StageTopics]:
        """Return the topics to subscribe to, by deployment and index of a loaded stage.

        The board subscribes to its own topic, and to a stage without replicas, once the stage is
        prepared, so no request is lost between the arrival of the manifest and the subscription.
        The board joins a shared subscription only once the stage is live: a board that joins
        earlier takes requests from boards that can answer the requests.
        """
        topics: dict[tuple[str, int], StageTopics] = {}
        for name, entry in self._entries.items():
            for held in entry.generations():
                is_routed = held.assignment.manifest.is_routed
                for stage in held.assignment.stages:
                    sharers = len(stage.devices)
                    is_open = stage.index == 0 or not is_routed
                    if sharers > 1 and held is not entry.live:
                        is_open = False
                    before = topics.get((name, stage.index), StageTopics(0, is_own=False))
                    topics[name, stage.index] = StageTopics(
                        before.sharers or (sharers if is_open else 0),
                        is_own=before.is_own or is_routed,
                        is_replicated=before.is_replicated or sharers > 1,
                    )
        return topics

    def later_boards(self) -> set[str]:
        """Return the replicas to which this board, as the first one, may send requests."""
        return {
            device
            for entry in self._entries.values()
            for held in entry.generations()
            if any(stage.index == 0 for stage in held.assignment.stages)
            for stage in held.assignment.manifest.stages[1:]
            if len(stage.devices) > 1
            for device in stage.devices
        } - {self._device}

    def unconfirmed(self) -> list[Manifest]:
        """Return the live manifests that the broker did not send, if this board runs stage 0."""
        return [
            entry.live.assignment.manifest
            for entry in self._entries.values()
            if entry.live is not None
            and not entry.confirmed
            and any(stage.index == 0 for stage in entry.live.assignment.stages)
        ]

    def incoming(self, deployment: str, generation: str) -> Assignment | None:
        """Return the incoming assignment of a generation; None: the generation is not incoming."""
        entry = self._entries.get(deployment)
        found = entry.incoming if entry is not None else None
        return found if found is not None and found.manifest.generation == generation else None

    def incoming_with(self, sha256: str) -> Assignment | None:
        """Return the incoming assignment that needs a file; None: no assignment needs the file."""
        for entry in self._entries.values():
            if entry.incoming is not None and sha256 in entry.incoming.artifacts():
                return entry.incoming
        return None

    def artifacts(self) -> dict[str, Artifact]:
        """Return the files of all generations, by SHA-256."""
        return {
            sha256: file
            for entry in self._entries.values()
            for assignment in entry.assignments()
            for sha256, file in assignment.artifacts().items()
        }

    def state_to_save(self, deployment: str) -> dict[str, Assignment]:
        """Return the assignments for a restarted agent, under ``live`` and ``prepared``."""
        entry = self._entries.get(deployment, _Entry())
        held = {"live": entry.live, "prepared": entry.prepared}
        return {key: item.assignment for key, item in held.items() if item is not None}

    def status(self) -> list[dict[str, Any]]:
        """Return the loaded generations as in the answer to ``status``."""
        return [
            {
                "deployment": name,
                "generation": item.id,
                "state": state,
                "stages": [stage.index for stage in item.assignment.stages],
            }
            for name, entry in self._entries.items()
            for item, state in (
                (entry.live, "live"),
                (entry.prepared, "prepared"),
                *((draining, "draining") for draining, _ in entry.draining),
            )
            if item is not None
        ]

    def refusals(self) -> list[dict[str, Any]]:
        """Return the last refusal of each deployment as in the ``stats`` message."""
        return [
            {
                "deployment": refusal.deployment,
                "generation": refusal.generation,
                "code": refusal.code,
                "reason": refusal.reason[:_MAX_REASON_CHARACTERS],
                "time_s": round(refusal.time_s, 3),
            }
            for refusal in self._refusals.values()
        ]
