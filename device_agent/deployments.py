"""The deployments of one board as a pure state machine.

```
event                            state of a generation after the event
command prepare                  incoming: the host sends the generation's files
command load                     prepared: loaded; waits for its manifest
its manifest arrives             live: answers requests
the next manifest arrives        draining: still answers its requests, for 10 s
the 10 s are over                dropped
```

The module uses no file, clock or thread: times are arguments, and
:class:`~device_agent.locked_deployments.LockedDeployments` admits one thread at a time. Some
methods are events: they change the state. The other methods are decisions: they read the state and
return, for example, the topics to subscribe to or the files to keep.
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

#: Time for which a generation still answers requests after the next generation went live, in
#: seconds.
DRAIN_S = 10.0
#: Largest number of deployments whose last refusal is kept.
_MAX_REFUSALS = 8
#: Largest length of a refusal's reason in the ``stats`` message.
_MAX_REASON_CHARACTERS = 200


@dataclass(frozen=True)
class ServedStage:
    """One stage of a deployment, in the generations that this board has loaded.

    Attributes:
        live_generation: Generation that answers a request without a generation; None: no
            generation is live.
        generations: The loaded stage of each generation, by generation.
        elsewhere: Generations in which only other boards run this stage. This board does not
            answer requests for these generations.
    """

    live_generation: str | None
    generations: Mapping[str, LoadedStage]
    elsewhere: frozenset[str]

    @property
    def serves(self) -> str | None:
        """Name of the loaded generation that answers requests; None: there is none.

        This is the live generation if this board has loaded it. If not, this is a draining
        generation, which answers requests for 10 s after its replacement.
        """
        if self.live_generation in self.generations:
            return self.live_generation
        return next(iter(self.generations), None)


@dataclass(frozen=True)
class StageTopics:
    """The topics to which this board subscribes for one stage.

    Attributes:
        sharers: Number of boards that share the topic for requests without a route; 0: this board
            does not subscribe to that topic.
        is_own: Whether this board subscribes to its own topic, for requests with a route.
        is_replicated: Whether other boards serve the stage too.
    """

    sharers: int
    is_own: bool
    is_replicated: bool = False


@dataclass(frozen=True)
class Generation:
    """One generation of a deployment, loaded on this board.

    Attributes:
        assignment: The stages that this board runs in the generation.
        loaded: The loaded stages, in the order of ``assignment.stages``.
    """

    assignment: Assignment
    loaded: tuple[LoadedStage, ...]

    @property
    def id(self) -> str:
        """Name of the generation, from its manifest."""
        return self.assignment.manifest.generation


@dataclass
class _Entry:
    """The state of one deployment on this board.

    Attributes:
        incoming: Generation whose files the host is sending.
        prepared: Generation that is loaded and waits for its manifest.
        live: Generation that answers requests.
        draining: Replaced generations that still answer requests for a while, each with the time at
            which the board drops it. Times are in seconds on the monotonic clock.
        seen: Last manifest that the broker sent.
        previous: Manifest before ``seen``, with the time at which the board drops it.
        confirmed: Whether the broker sent or cleared the manifest after the agent last connected.
    """

    incoming: Assignment | None = None
    prepared: Generation | None = None
    live: Generation | None = None
    draining: list[tuple[Generation, float]] = field(default_factory=list)
    seen: Manifest | None = None
    previous: tuple[Manifest, float] | None = None
    confirmed: bool = False

    def generations(self) -> list[Generation]:
        """Return the loaded generations: first live, then draining, then prepared."""
        held = [self.live, *(item for item, _ in self.draining), self.prepared]
        return [item for item in held if item is not None]

    def assignments(self) -> list[Assignment]:
        """Return the assignments of the loaded generations and of the incoming one."""
        incoming = [] if self.incoming is None else [self.incoming]
        return [*(held.assignment for held in self.generations()), *incoming]

    def follow(self, manifest: Manifest, now_s: float) -> None:
        """Make the generation of ``manifest`` live if the board has loaded it.

        A live generation that is replaced drains: it still answers requests for 10 s.
        """
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
    """Why this board refused its part of a deployment.

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
        """Apply the deployment's retained manifest.

        Args:
            deployment: Name of the deployment.
            manifest: The manifest; None: the host cleared the manifest, so no generation is live.
            now_s: Time on the monotonic clock, in seconds.

        Returns:
            Whether the live generation or the last manifest changed.
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
        """Note the incoming assignment, whose files the host sends next."""
        self._entries[assignment.manifest.deployment].incoming = assignment

    def finish_load(self, generation: Generation, now_s: float) -> None:
        """Add a loaded generation: live if its manifest has already arrived, else prepared."""
        manifest = generation.assignment.manifest
        entry = self._entries[manifest.deployment]
        self._refusals.pop(manifest.deployment, None)
        entry.incoming = None
        if entry.live is None or entry.live.id != generation.id:
            entry.prepared = generation
        if entry.seen is not None and entry.seen.generation == generation.id:
            entry.follow(entry.seen, now_s)

    def abort(self, deployment: str, generation: str) -> None:
        """Drop a generation if it is incoming or prepared; a live generation stays."""
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
        """Drop a deployment if no generation of it is loaded or incoming."""
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
        """Record that the agent connected: the broker will send all retained manifests again."""
        for entry in self._entries.values():
            entry.confirmed = False

    def expire(self, now_s: float) -> bool:
        """Drop the generations replaced more than 10 s ago; return whether anything changed."""
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
        """Return the names of the deployments whose manifests this board needs."""
        return set(self._entries)

    def live_names(self) -> list[str]:
        """Return the sorted names of the deployments that are live on this board."""
        return sorted(name for name, entry in self._entries.items() if entry.live)

    def live_generation(self, deployment: str) -> str | None:
        """Return the name of a deployment's live generation; None: no generation is live."""
        entry = self._entries.get(deployment)
        return entry.live.id if entry and entry.live else None

    def served_stages(self) -> dict[tuple[str, int], ServedStage]:
        """Return the loaded stages of each stage topic, by deployment and stage index."""
        served_stages: dict[tuple[str, int], ServedStage] = {}
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
                served_stages[name, index] = ServedStage(
                    live_manifest.generation if live_manifest else None,
                    by_generation,
                    frozenset(
                        manifest.generation
                        for manifest in manifests
                        if manifest is not None
                        and index not in {own.index for own in manifest.stages_of(self._device)}
                    ),
                )
        return served_stages

    def stage_topics(self) -> dict[tuple[str, int], StageTopics]:
        """Return the topics to subscribe to, by deployment and index of a loaded stage.

        For a stage without replicas, and for requests with a route, the board subscribes as soon
        as the stage is prepared. So no request is lost between the arrival of the manifest and the
        subscription. If replicas share the stage's topic, the board joins the shared subscription
        only when the stage is live. A board that joins earlier would get requests that it cannot
        answer yet, and that the other replicas could answer.
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
        """Return the boards that this board may choose for the later stages of a request.

        If a request has no route, the board of stage 0 chooses one board for each later stage.
        Stages with one board need no choice and are left out.
        """
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
        """Return the manifests that are live on this board, and that the broker did not send.

        If stage 0 of a deployment runs on other boards, its manifest is left out: those boards
        publish the manifest again.
        """
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
        """Return the incoming assignment that needs the file with this SHA-256.

        None: no incoming assignment needs the file.
        """
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
        """Return the assignments that a restarted agent loads, as ``live`` and ``prepared``."""
        entry = self._entries.get(deployment, _Entry())
        held = {"live": entry.live, "prepared": entry.prepared}
        return {key: item.assignment for key, item in held.items() if item is not None}

    def status(self) -> list[dict[str, Any]]:
        """Return the loaded generations, as the answer to the command ``status`` lists them."""
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
        """Return the last refusal of each refused deployment, as entries of a ``stats`` message."""
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
