"""What this board runs of which deployment: prepared, live, draining, and what follows.

```
prepare, store ... -> load -> prepared -> its manifest is live -> live
                                          another's is           draining for 10 s -> gone
```

Commands run one after another in one thread; manifests arrive in the network thread. The lock
is held for changes in memory only, never while files are read or models loaded. The inference
thread takes no lock: it reads :attr:`Deployments.routes`, which is replaced as a whole.
"""

from __future__ import annotations

import binascii
import json
import logging
import re
import threading
import time
from base64 import b64decode
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import psutil

from device_agent import heap
from device_agent.artifact_store import Artifact
from device_agent.load_stage import (
    Assignment,
    LoadedStage,
    Reference,
    check_needs,
    check_reference_sizes,
    load_stage,
    read_manifest,
)
from device_agent.timing.profiler import read_piece, time_piece
from edge_core.contract.manifest import NAME_PATTERN, Manifest
from edge_core.contract.messages import CommandError, ErrorCode
from edge_core.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from device_agent.artifact_store import ArtifactStore

_LOG = logging.getLogger("device-agent")

#: How long requests of the generation before are still answered after another went live.
DRAIN_S = 10.0
_MIB = 1024 * 1024
#: Left free on the disk for state files and the system.
_STORAGE_MARGIN_BYTES = _MIB
#: Deployments whose last refusal is told, and how long its reason may be.
_MAX_REFUSALS = 8
_MAX_REASON_CHARACTERS = 200
_SHA256_PATTERN = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Route:
    """Where a stage topic's messages go.

    Attributes:
        live_generation: Of messages that name none.
        stages: Loaded here, by generation.
        elsewhere: Generations whose stage other boards run: not ours to answer.
    """

    live_generation: str | None
    stages: Mapping[str, LoadedStage]
    elsewhere: frozenset[str]

    @property
    def serves(self) -> str | None:
        """The generation that is loaded here and answers: the live one, else one that drains.

        Never the one that the broker says is live, if this board doesn't hold it.
        """
        if self.live_generation in self.stages:
            return self.live_generation
        return next(iter(self.stages), None)


@dataclass(frozen=True)
class _Generation:
    assignment: Assignment
    loaded: tuple[LoadedStage, ...]

    @property
    def id(self) -> str:
        return self.assignment.manifest.generation


@dataclass
class _Entry:
    """One deployment."""

    incoming: Assignment | None = None
    prepared: _Generation | None = None
    live: _Generation | None = None
    #: With the time at which each is unloaded.
    draining: list[tuple[_Generation, float]] = field(default_factory=list)
    #: The manifest that is live by the broker's word, and the one before while it drains.
    seen: Manifest | None = None
    previous: tuple[Manifest, float] | None = None
    #: Whether the broker has shown a manifest since the last connect.
    confirmed: bool = False

    def generations(self) -> list[_Generation]:
        """Return what is loaded, by descending claim to the stage's topic."""
        held = [self.live, *(item for item, _ in self.draining), self.prepared]
        return [item for item in held if item is not None]

    def drain(self, now: float) -> None:
        if self.live is not None:
            self.draining.append((self.live, now + DRAIN_S))
            self.live = None


class Deployments:
    """Everything this board holds, on disk and loaded."""

    def __init__(
        self, device: str, store: ArtifactStore, *, threads: int, ram_bytes: int | None
    ) -> None:
        """Start empty; :meth:`load_from_disk` brings back what was there.

        Args:
            device: This board's name in manifests.
            store: The state directory.
            threads: Threads a model is run with.
            ram_bytes: What the agent may use, itself included; None: what the board has free.
        """
        self.device = device
        self.routes: Mapping[tuple[str, int], Route] = {}
        self._store = store
        self._threads = threads
        self._ram_bytes = ram_bytes
        self._base_rss_bytes = psutil.Process().memory_info().rss
        self._lock = threading.RLock()
        self._entries: dict[str, _Entry] = {}
        #: Deployments whose state on disk is not the present one; the command thread's alone.
        self._unsaved: set[str] = set()
        #: The slice that ``profile`` asked for last, until it was timed.
        self._piece: Artifact | None = None
        #: By deployment, the oldest first.
        self._refusals: dict[str, dict[str, Any]] = {}

    # What the session asks

    def stage_filters(self) -> dict[tuple[str, int], int]:
        """Return the stage topics to listen on, with the number of boards that share each.

        A stage of its own is listened to from ``prepared`` on, so that no message is lost between
        the manifest's arrival and the subscription's. A shared subscription is joined only when
        live: before that, messages would be taken from boards that can answer them.
        """
        with self._lock:
            filters: dict[tuple[str, int], int] = {}
            for name, entry in self._entries.items():
                for held in entry.generations():
                    for stage in held.assignment.stages:
                        sharers = len(stage.devices)
                        if sharers == 1 or held is entry.live:
                            filters.setdefault((name, stage.index), sharers)
            return filters

    def names(self) -> set[str]:
        """Return the deployments whose manifest matters here."""
        with self._lock:
            return set(self._entries)

    def expect_manifests(self) -> None:
        """Take note that the broker has yet to show what it retains."""
        with self._lock:
            for entry in self._entries.values():
                entry.confirmed = False

    def unconfirmed(self) -> list[Manifest]:
        """Return live manifests, of pipelines that start here, which the broker doesn't hold."""
        with self._lock:
            return [
                entry.live.assignment.manifest
                for entry in self._entries.values()
                if entry.live is not None
                and not entry.confirmed
                and any(stage.index == 0 for stage in entry.live.assignment.stages)
            ]

    # Manifests

    def manifest_arrived(self, deployment: str, payload: bytes | bytearray) -> bool:
        """Follow the deployment's retained manifest; return whether anything changed here.

        Changes memory only; :meth:`save` is due afterwards, in the command thread.
        """
        manifest = None
        if payload:
            try:
                manifest = Manifest.from_json(bytes(payload))
            except ManifestError as error:
                _LOG.warning("ignored a manifest of %s: %s", deployment, error)
                self._note_refusal(deployment, None, ErrorCode.BAD_PAYLOAD, str(error))
                return False
            if manifest.deployment != deployment:
                _LOG.warning("ignored a manifest of %s on %s", manifest.deployment, deployment)
                return False
        with self._lock:
            entry = self._entries.get(deployment)
            if entry is None:
                return False
            entry.confirmed = True
            before = (entry.live, entry.seen and entry.seen.generation)
            if manifest is None:
                entry.live = entry.seen = entry.previous = None
                entry.draining.clear()
            else:
                self._follow(entry, manifest)
            self._rebuild_routes()
            if entry.live is not before[0]:
                _LOG.info(
                    "%s: %s",
                    deployment,
                    f"generation {entry.live.id} is live" if entry.live else "no longer live here",
                )
            return before != (entry.live, entry.seen and entry.seen.generation)

    def _follow(self, entry: _Entry, manifest: Manifest) -> None:
        now = time.monotonic()
        known = entry.seen or (entry.live and entry.live.assignment.manifest)
        if known and known.generation != manifest.generation:
            entry.previous = (known, now + DRAIN_S)
        entry.seen = manifest
        if entry.live is not None and entry.live.id == manifest.generation:
            return
        entry.drain(now)
        if entry.prepared is not None and entry.prepared.id == manifest.generation:
            entry.live, entry.prepared = entry.prepared, None
            return
        for held in entry.draining:
            # A roll-back finds the generation still loaded.
            if held[0].id == manifest.generation:
                entry.draining.remove(held)
                entry.live = held[0]
                return

    def _rebuild_routes(self) -> None:
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
                        and index not in {own.index for own in manifest.stages_of(self.device)}
                    ),
                )
        self.routes = routes

    def expire(self) -> bool:
        """Unload what has drained; return whether anything changed, so that :meth:`save` is due."""
        now = time.monotonic()
        with self._lock:
            changed = False
            for entry in self._entries.values():
                kept = [held for held in entry.draining if held[1] > now]
                changed |= len(kept) < len(entry.draining)
                entry.draining = kept
                if entry.previous is not None and entry.previous[1] <= now:
                    entry.previous = None
                    changed = True
            if changed:
                self._rebuild_routes()
            return changed

    # Commands, in the command thread

    def answer(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Do what a command asks (``edge_core.contract.messages``) and return the answer's fields.

        Raises:
            CommandError: It can't be done.
        """
        commands: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
            "prepare": self._prepare,
            "store": self._store_chunk,
            "load": self._load,
            "abort": self._abort,
            "remove": self._remove,
            "status": self._status,
            "profile": self._profile,
        }
        name = command.get("command")
        if not isinstance(name, str) or name not in commands:
            raise CommandError(
                ErrorCode.BAD_COMMAND,
                f"The command {name!r} is unknown; expected ping, time-messages, "
                f"{', '.join(commands)}.",
            )
        try:
            return commands[name](command)
        except CommandError as error:
            if name in {"prepare", "store", "load"}:
                self._note_refusal(*self._meant(command), error.code, error.reason)
            raise

    def _meant(self, command: Mapping[str, Any]) -> tuple[str | None, str | None]:
        """Return the deployment and the generation that a command speaks of."""
        sha256 = str(command.get("sha256"))
        with self._lock:
            for entry in self._entries.values():
                if entry.incoming is not None and sha256 in entry.incoming.artifacts():
                    return entry.incoming.manifest.deployment, entry.incoming.manifest.generation
        manifest = command.get("manifest")
        fields = manifest if isinstance(manifest, dict) else command
        deployment, generation = (
            value if isinstance(value, str) and NAME_PATTERN.fullmatch(value) else None
            for value in (fields.get("deployment"), fields.get("generation"))
        )
        return deployment, generation

    def _note_refusal(
        self, deployment: str | None, generation: str | None, code: str, reason: str
    ) -> None:
        """Keep why this board did not take its part, until it does."""
        if deployment is None:
            return
        with self._lock:
            self._refusals.pop(deployment, None)
            while len(self._refusals) >= _MAX_REFUSALS:
                del self._refusals[next(iter(self._refusals))]
            self._refusals[deployment] = {
                "deployment": deployment,
                "generation": generation,
                "code": str(code),
                "reason": reason[:_MAX_REASON_CHARACTERS],
                "time_s": round(time.time(), 3),
            }

    def refusals(self) -> list[dict[str, Any]]:
        """Return for each deployment that was refused here last why, as it stands in ``stats``."""
        with self._lock:
            return list(self._refusals.values())

    def _prepare(self, command: Mapping[str, Any]) -> dict[str, Any]:
        assignment = read_assignment(self.device, command)
        manifest = assignment.manifest
        with self._lock:
            entry = self._entries.setdefault(manifest.deployment, _Entry())
            # What was prepared before never went live; it gives its memory back first.
            entry.prepared = None
            entry.incoming = None
            self._rebuild_routes()
        try:
            self._check_memory(
                "the generation",
                sum(
                    max(stage.size_bytes, stage.predicted.ram_bytes - self._base_rss_bytes)
                    for stage in assignment.stages
                ),
            )
            self._check_storage("the generation", assignment.artifacts().values())
            with self._lock:
                entry.incoming = assignment
        finally:
            self.save(manifest.deployment)
        _LOG.info("%s: preparing generation %s", manifest.deployment, manifest.generation)
        return {
            "artifacts": [
                {**asdict(file), "have_bytes": self._store.have_bytes(file)}
                for file in assignment.artifacts().values()
            ],
            "needs": list(manifest.needs),
        }

    def _check_memory(self, what: str, needed: int) -> int:
        """Return the bytes that are left beside ``needed``."""
        used = psutil.Process().memory_info().rss
        if self._ram_bytes is None:
            free, of = psutil.virtual_memory().available, "the board has free"
        else:
            free, of = self._ram_bytes - used, "is left of the agent's --ram-mib"
        if needed > free:
            raise CommandError(
                ErrorCode.NO_MEMORY,
                f"Board {self.device} has too little memory: {what} needs "
                f"{needed / _MIB:.1f} MiB, {max(0, free) / _MIB:.1f} MiB {of} "
                f"(the agent and what it serves now take {used / _MIB:.1f} MiB).",
            )
        return int(free - needed)

    def _check_storage(self, what: str, files: Iterable[Artifact]) -> None:
        needed = sum(file.size_bytes - self._store.have_bytes(file) for file in files)
        free = self._store.free_bytes() - _STORAGE_MARGIN_BYTES
        if needed > free:
            raise CommandError(
                ErrorCode.NO_STORAGE,
                f"Board {self.device} has too little storage: {what} needs "
                f"{needed / _MIB:.1f} MiB, {max(0, free) / _MIB:.1f} MiB are free.",
            )

    def _store_chunk(self, command: Mapping[str, Any]) -> dict[str, Any]:
        sha256 = command.get("sha256")
        with self._lock:
            announced = {
                key: file
                for entry in self._entries.values()
                if entry.incoming is not None
                for key, file in entry.incoming.artifacts().items()
            }
            if self._piece is not None:
                announced[self._piece.sha256] = self._piece
        file = announced.get(sha256) if isinstance(sha256, str) else None
        if file is None or command.get("size_bytes") != file.size_bytes:
            raise CommandError(
                ErrorCode.BAD_COMMAND,
                f"No file {str(sha256)[:12]} of {command.get('size_bytes')} bytes was announced; "
                "send `prepare` or `profile` first.",
            )
        offset, data = command.get("offset"), command.get("data")
        if isinstance(offset, bool) or not isinstance(offset, int) or not isinstance(data, str):
            raise CommandError(
                ErrorCode.BAD_COMMAND, "A chunk needs a whole `offset` and base64 `data`."
            )
        try:
            chunk = b64decode(data, validate=True)
        except (binascii.Error, ValueError) as error:
            raise CommandError(
                ErrorCode.BAD_COMMAND, f"The chunk's data is not base64: {error}."
            ) from None
        return {"have_bytes": self._store.append(file, offset, chunk)}

    def _load(self, command: Mapping[str, Any]) -> dict[str, Any]:
        name, generation = _name(command, "deployment"), _name(command, "generation")
        with self._lock:
            entry = self._entries.get(name)
            assignment = entry.incoming if entry is not None else None
        if entry is None or assignment is None or assignment.manifest.generation != generation:
            raise CommandError(
                ErrorCode.NOT_FOUND,
                f"Generation {generation} of {name} is not being prepared; send `prepare` first.",
            )
        results = [
            load_stage(assignment, stage, self._store, self._threads) for stage in assignment.stages
        ]
        with self._lock:
            self._refusals.pop(name, None)
            entry.incoming = None
            if entry.live is None or entry.live.id != generation:
                entry.prepared = _Generation(assignment, tuple(loaded for loaded, _ in results))
            if entry.seen is not None and entry.seen.generation == generation:
                self._follow(entry, entry.seen)
            self._rebuild_routes()
        self.save(name)
        _LOG.info("%s: generation %s is prepared", name, generation)
        return {"stages": [asdict(report) for _, report in results]}

    def _abort(self, command: Mapping[str, Any]) -> dict[str, Any]:
        name, generation = _name(command, "deployment"), _name(command, "generation")
        with self._lock:
            entry = self._entries.get(name)
            if entry is not None:
                if entry.incoming and entry.incoming.manifest.generation == generation:
                    entry.incoming = None
                if entry.prepared and entry.prepared.id == generation:
                    entry.prepared = None
                self._rebuild_routes()
        self.save(name)
        _LOG.info("%s: generation %s is aborted", name, generation)
        return {}

    def _remove(self, command: Mapping[str, Any]) -> dict[str, Any]:
        name = _name(command, "deployment")
        with self._lock:
            known = self._entries.pop(name, None) is not None
            self._refusals.pop(name, None)
            self._rebuild_routes()
        if not known:
            raise CommandError(ErrorCode.NOT_FOUND, f"Board {self.device} holds nothing of {name}.")
        self.save(name)
        _LOG.info("%s: removed", name)
        return {}

    def _status(self, _command: Mapping[str, Any]) -> dict[str, Any]:
        with self._lock:
            held = [
                (name, item, state)
                for name, entry in self._entries.items()
                for item, state in (
                    (entry.live, "live"),
                    (entry.prepared, "prepared"),
                    *((draining, "draining") for draining, _ in entry.draining),
                )
                if item is not None
            ]
        return {
            "deployments": [
                {
                    "deployment": name,
                    "generation": item.id,
                    "state": state,
                    "stages": [stage.index for stage in item.assignment.stages],
                }
                for name, item, state in held
            ]
        }

    def _profile(self, command: Mapping[str, Any]) -> dict[str, Any]:
        piece = read_piece(self.device, command)
        with self._lock:
            self._piece = piece.file
        try:
            self.check_idle(force=piece.force)
            spare_bytes = self._check_memory("the slice", piece.ram_bytes)
            self._check_storage("the slice", [piece.file])
            have_bytes = self._store.have_bytes(piece.file)
            if have_bytes < piece.file.size_bytes:
                return {"have_bytes": have_bytes}
            self._store.check(piece.file)
            timed = time_piece(
                piece,
                self._store.path(piece.file),
                threads=self._threads,
                displaced_bytes=min(piece.displaced_bytes, spare_bytes // 2),
            )
        except BaseException:
            self._forget_piece()
            raise
        self._forget_piece()
        _LOG.info("profile: %.12s took %.3f ms", piece.file.sha256, timed["invoke_ms"])
        return timed

    def check_idle(self, *, force: bool) -> None:
        """Raise if this board serves anything and timing is not forced.

        Raises:
            CommandError: With ``busy``.
        """
        with self._lock:
            live = sorted(name for name, entry in self._entries.items() if entry.live)
        if live and not force:
            raise CommandError(
                ErrorCode.BUSY,
                f"Board {self.device} serves {', '.join(live)}: timing would slow it down, and "
                "it would falsify the times. Undeploy first, or profile with --force.",
            )

    def _forget_piece(self) -> None:
        with self._lock:
            self._piece = None
        self._delete_unwanted()
        heap.give_back()

    # The disk, in the command thread

    def save(self, deployment: str) -> None:
        """Write a deployment's state and delete the files that nothing needs any more."""
        with self._lock:
            entry = self._entries.get(deployment)
            if entry is not None and not (entry.generations() or entry.incoming):
                del self._entries[deployment]
                entry = None
            state = {
                key: _to_json(held.assignment)
                for key, held in (
                    ("live", entry.live if entry else None),
                    ("prepared", entry.prepared if entry else None),
                )
                if held is not None
            }
        try:
            if state:
                self._store.write_state(deployment, state)
            else:
                self._store.delete_state(deployment)
        except OSError as error:
            _LOG.error("%s: the state can't be written: %s", deployment, error)
            self._unsaved.add(deployment)
        else:
            self._unsaved.discard(deployment)
        self._delete_unwanted()

    def _delete_unwanted(self) -> None:
        """Delete the files that no deployment needs, and no slice that is to be timed.

        Nothing is deleted while a state on disk is an old one: after a restart it is what counts.
        """
        if self._unsaved:
            return
        with self._lock:
            wanted = {
                sha256
                for entry in self._entries.values()
                for assignment in (
                    *(held.assignment for held in entry.generations()),
                    *([entry.incoming] if entry.incoming else []),
                )
                for sha256 in assignment.artifacts()
            }
            if self._piece is not None:
                wanted.add(self._piece.sha256)
        try:
            self._store.keep_only(wanted)
        except OSError as error:
            _LOG.error("files that nothing needs can't be deleted: %s", error)

    def save_all(self) -> None:
        """Write every deployment's state."""
        for name in self.names():
            self.save(name)

    def load_from_disk(self) -> None:
        """Load what was live or prepared when the agent ended.

        What can't be read or loaded is said and left out, its damaged files deleted.
        """
        for name, state in self._store.read_states().items():
            entry = _Entry()
            for key in ("live", "prepared"):
                document = state.get(key) if isinstance(state, dict) else None
                if document is None:
                    continue
                generation = None
                try:
                    assignment = read_assignment(self.device, document)
                    generation = assignment.manifest.generation
                    loaded = tuple(
                        load_stage(assignment, stage, self._store, self._threads)[0]
                        for stage in assignment.stages
                    )
                except CommandError as error:
                    _LOG.error("%s: not served: %s", name, error)
                    self._note_refusal(name, generation, error.code, error.reason)
                    continue
                setattr(entry, key, _Generation(assignment, loaded))
                _LOG.info(
                    "%s: loaded generation %s from disk", name, assignment.manifest.generation
                )
            if entry.generations():
                with self._lock:
                    self._entries[name] = entry
                    self._rebuild_routes()
            else:
                self._store.delete_state(name)


def read_assignment(device: str, document: Mapping[str, Any]) -> Assignment:
    """Read ``manifest`` and ``references`` as ``prepare`` brings them.

    Raises:
        CommandError: With ``bad-command``: they are not what they should be; with
            ``unknown-need``: serving them rightly takes what this agent does not know.
    """
    manifest = read_manifest(document)
    check_needs(manifest)
    stages = manifest.stages_of(device)
    if not stages:
        raise CommandError(
            ErrorCode.BAD_COMMAND,
            f"The manifest has no stage for board {device}; "
            f"it names {', '.join(sorted({name for s in manifest.stages for name in s.devices}))}.",
        )
    items = document.get("references")
    references = {
        reference.stage: reference
        for item in (items if isinstance(items, list) else [])
        for reference in [_reference(item)]
    }
    for stage in stages:
        if stage.index not in references:
            raise CommandError(
                ErrorCode.BAD_COMMAND, f"There is no reference for stage {stage.index}."
            )
        check_reference_sizes(manifest, stage, references[stage.index])
    return Assignment(manifest, stages, tuple(references[stage.index] for stage in stages))


def _reference(item: Any) -> Reference:
    try:
        files = []
        for key in ("input", "output"):
            sha256, size_bytes = item[key]["sha256"], item[key]["size_bytes"]
            if not _SHA256_PATTERN.fullmatch(sha256) or type(size_bytes) is not int:
                raise ValueError
            files.append(Artifact(sha256, size_bytes))
        return Reference(int(item["stage"]), *files)
    except (TypeError, KeyError, ValueError):
        raise CommandError(
            ErrorCode.BAD_COMMAND,
            "A reference needs `stage`, `input` and `output`, the two with `sha256` and "
            "`size_bytes`.",
        ) from None


def _to_json(assignment: Assignment) -> dict[str, Any]:
    return {
        "manifest": json.loads(assignment.manifest.to_json()),
        "references": [reference.to_json() for reference in assignment.references],
    }


def _name(command: Mapping[str, Any], key: str) -> str:
    value = command.get(key)
    # Names become file names: nothing but a name may pass.
    if not isinstance(value, str) or not NAME_PATTERN.fullmatch(value):
        raise CommandError(
            ErrorCode.BAD_COMMAND, f"The command has {key} = {value!r}; expected a name."
        )
    return value
