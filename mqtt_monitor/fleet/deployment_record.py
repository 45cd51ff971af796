"""Computes the state of one deployment from its manifest and its boards' records. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edge_core.contract.manifest import Manifest, WrappedLayer
from edge_core.errors import ManifestError
from mqtt_monitor.fleet.boundary_counter import IDLE_PERIODS, BoundaryCounter
from mqtt_monitor.fleet.limits import MAX_REPLICAS, MAX_TENSORS
from mqtt_monitor.fleet.read_values import read_text
from mqtt_monitor.fleet.series import Series
from mqtt_monitor.fleet.snapshot import BoardStage, Boundary, Deployment, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from edge_core.contract.manifest import TensorSpec
    from mqtt_monitor.fleet.device_record import DeviceRecord, StageChange

#: All that a stage's view is computed from: the stage's boards, and the lost and repeated messages
#: before and after the stage. If the key is unchanged, the view is too.
_Key = tuple[object, object, object]

#: The values of a stage, over all its boards, whose last hour is kept.
STAGE_FIGURES = ("requests_per_s", "errors_per_s", "invoke_ms", "queue_ms")


@dataclass(frozen=True)
class _Tensors:
    names: tuple[str, ...]
    request_bytes: int


@dataclass(frozen=True)
class PlannedStage:
    """A stage's entry in the manifest, without the fields that only boards need."""

    index: int
    devices: tuple[str, ...]
    size_bytes: int
    predicted_ms: float
    predicted_ram_bytes: int
    receives: _Tensors
    sends: _Tensors
    layers: tuple[str, ...]
    more_layers: int
    wrapped: tuple[WrappedLayer, ...]
    more_wrapped: int


@dataclass(frozen=True)
class _Plan:
    generation: str
    model: str
    quantization: str
    weights: str
    wire: str
    stages: tuple[PlannedStage, ...]


class DeploymentRecord:
    """Keeps what the monitor knows about one deployment.

    Attributes:
        name: Name of the deployment.
        since_s: Time of the manifest's last change, in seconds since the epoch; None: the manifest
            has not changed since the monitor started.
        problem: Reason why the newest manifest is unreadable; None: this manifest is readable.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.since_s: float | None = None
        self.problem: str | None = None
        self._plan: _Plan | None = None
        self._series: list[dict[str, Series]] = []
        self._boundaries: list[BoundaryCounter] = []
        #: For each stage, the last view and the key of this view; None: no view of this manifest.
        self._views: list[tuple[_Key, Stage] | None] = []

    @property
    def generation(self) -> str | None:
        """The live generation; None: no manifest could be read."""
        return self._plan.generation if self._plan else None

    @property
    def stages(self) -> tuple[PlannedStage, ...]:
        """The stages of the manifest, in order; empty: no manifest could be read."""
        return self._plan.stages if self._plan else ()

    def fold_manifest(self, payload: bytes, room_for_stages: int) -> bool:
        """Replace the manifest; return whether all stages of the new manifest are kept.

        If the new manifest is unreadable, ``problem`` is set, the record and the boards keep the
        previous manifest, and the result is True.

        Args:
            payload: The manifest's JSON text; not empty.
            room_for_stages: Number of stages that may be kept; further stages are left out.
        """
        try:
            manifest = Manifest.from_json(payload)
        except ManifestError as error:
            self.problem = read_text(" ".join(str(error).split()))
            return True
        if manifest.deployment != self.name:
            self.problem = f"it belongs to another deployment, {manifest.deployment}"
            return True
        self.problem = None
        stages = manifest.stages[:room_for_stages]
        plan = _Plan(
            generation=manifest.generation,
            model=read_text(manifest.model.name) or "unnamed",
            quantization=read_text(manifest.model.quantization) or "unknown",
            weights=read_text(manifest.model.weights) or "unknown",
            wire=read_text(manifest.model.wire) or "unknown",
            stages=tuple(
                PlannedStage(
                    index=stage.index,
                    devices=stage.devices[:MAX_REPLICAS],
                    size_bytes=stage.size_bytes,
                    predicted_ms=stage.predicted.invoke_ms,
                    predicted_ram_bytes=stage.predicted.ram_bytes,
                    receives=_describe(stage.inputs),
                    sends=_describe(manifest.sent_by(stage.index)),
                    layers=tuple(read_text(name) or "unnamed" for name in stage.layers),
                    more_layers=stage.more_layers,
                    wrapped=tuple(_printable(layer) for layer in stage.wrapped),
                    more_wrapped=stage.more_wrapped,
                )
                for stage in stages
            ),
        )
        if self.generation != plan.generation or len(self.stages) != len(stages):
            self._series = [{figure: Series() for figure in STAGE_FIGURES} for _ in stages]
            self._boundaries = [BoundaryCounter() for _ in stages[1:]]
        self._plan = plan
        self._views = [None] * len(stages)
        return len(stages) == len(manifest.stages)

    def fold_change(
        self, item: StageChange, device: DeviceRecord, devices: Mapping[str, DeviceRecord]
    ) -> None:
        """Add the new requests of one stage, from a board's newest statistics.

        Args:
            item: The stage and its new requests.
            device: The board's record.
            devices: The records of all boards, by name.
        """
        index = item.stage
        if index >= len(self._series) or device.name not in self.stages[index].devices:
            return
        self._count_messages(item)
        if device.load is None:
            return
        self._note_idle(index, devices)
        now_s = device.load.at_s
        stage = self._view_stage(self.stages[index], devices, now_s)
        for figure, series in self._series[index].items():
            series.add(now_s, getattr(stage, figure))

    def _count_messages(self, item: StageChange) -> None:
        index, change = item.stage, item.change
        if index > 0:
            before = self._boundaries[index - 1]
            before.add_received(change.answered + change.failed)
            if not change.continuous:
                before.note_gap()
        if index < len(self._boundaries):
            after = self._boundaries[index]
            after.add_sent(change.answered)
            if not change.continuous:
                after.note_gap()

    def _note_idle(self, index: int, devices: Mapping[str, DeviceRecord]) -> None:
        for boundary in (index - 1, index):
            if 0 <= boundary < len(self._boundaries) and all(
                self._is_idle(stage, devices) for stage in (boundary, boundary + 1)
            ):
                self._boundaries[boundary].note_idle()

    def _is_idle(self, index: int, devices: Mapping[str, DeviceRecord]) -> bool:
        for name in self.stages[index].devices:
            device = devices.get(name)
            if device is None or device.load is None:
                return False
            counter = device.counters.get((self.name, index))
            if counter is None or counter.idle_periods < IDLE_PERIODS:
                return False
            if device.load.queue_length or device.state == "offline":
                return False
        return True

    def series(self, index: int, figure: str) -> Series | None:
        """Return the last hour of one value of a stage; None: unknown stage or value.

        Args:
            index: Index of the stage.
            figure: The value, one of ``STAGE_FIGURES``.
        """
        if 0 <= index < len(self._series):
            return self._series[index].get(figure)
        return None

    def _boards(
        self, stage: PlannedStage, devices: Mapping[str, DeviceRecord], now_s: float
    ) -> tuple[BoardStage, ...]:
        boards = []
        for name in stage.devices:
            device = devices.get(name)
            if device is None:
                boards.append(BoardStage(device=name, state="unknown"))
                continue
            fresh = device.is_fresh(now_s)
            serves = device.lists(self.name, stage.index) if fresh else None
            counter = device.counters.get((self.name, stage.index))
            if counter is None:
                boards.append(BoardStage(device=name, state=device.state, serves=serves))
            else:
                boards.append(counter.view(name, device.state, serves=serves, fresh=bool(serves)))
        return tuple(boards)

    def view(self, devices: Mapping[str, DeviceRecord], now_s: float) -> Deployment:
        """Return the state of the deployment.

        Args:
            devices: The records of all boards, by name.
            now_s: The present time, in seconds since the epoch.
        """
        stages = tuple(self._view_stage(stage, devices, now_s) for stage in self.stages)
        plan = self._plan
        state: Literal["live", "broken", "unreadable"]
        if plan is None:
            state = "unreadable"
        elif all(stage.can_serve for stage in stages):
            state = "live"
        else:
            state = "broken"
        return Deployment(
            name=self.name,
            generation=self.generation,
            since_s=self.since_s,
            model=plan.model if plan else "unknown",
            quantization=plan.quantization if plan else "unknown",
            weights=plan.weights if plan else "unknown",
            wire=plan.wire if plan else "unknown",
            state=state,
            problem=self.problem,
            stages=stages,
            requests_per_s=stages[-1].requests_per_s if stages else None,
            bottleneck=_bottleneck(stages),
        )

    def _view_stage(
        self, stage: PlannedStage, devices: Mapping[str, DeviceRecord], now_s: float
    ) -> Stage:
        index = stage.index
        before = self._boundaries[index - 1] if index > 0 else None
        after = self._boundaries[index] if index < len(self._boundaries) else None
        key = (
            tuple(
                (device, device.version, device.is_fresh(now_s))
                if (device := devices.get(name)) is not None
                else None
                for name in stage.devices
            ),
            before and (before.lost, before.repeated),
            after and (after.lost, after.repeated),
        )
        last = self._views[index]
        if last is not None and last[0] == key:
            return last[1]
        boards = self._boards(stage, devices, now_s)
        requests_per_s = _total(boards, lambda board: board.requests_per_s)
        rss_bytes, shares_memory = _memory(stage, devices, now_s)
        view = Stage(
            index=index,
            devices=stage.devices,
            size_bytes=stage.size_bytes,
            predicted_ms=stage.predicted_ms,
            predicted_ram_bytes=stage.predicted_ram_bytes,
            input=_boundary(stage.receives, _total(boards, _arriving_per_s), before),
            output=_boundary(stage.sends, requests_per_s, after),
            boards=boards,
            requests_per_s=requests_per_s,
            errors_per_s=_total(boards, lambda board: board.errors_per_s),
            invoke_ms=_mean(boards, lambda board: board.invoke_ms),
            invoke_minute_ms=_mean(boards, lambda board: board.invoke_minute_ms),
            queue_ms=_mean(boards, lambda board: board.queue_ms),
            rss_bytes=rss_bytes,
            shares_memory=shares_memory,
            layers=stage.layers,
            more_layers=stage.more_layers,
            wrapped=stage.wrapped,
            more_wrapped=stage.more_wrapped,
        )
        self._views[index] = key, view
        return view


def _describe(tensors: tuple[TensorSpec, ...]) -> _Tensors:
    return _Tensors(
        tuple(read_text(str(tensor)) or "unnamed" for tensor in tensors[:MAX_TENSORS]),
        sum(tensor.size_bytes for tensor in tensors),
    )


def _printable(layer: WrappedLayer) -> WrappedLayer:
    return WrappedLayer(
        read_text(layer.name) or "unnamed",
        read_text(layer.operation) or "unknown",
        tuple(read_text(constant) or "" for constant in layer.constants),
    )


def _boundary(tensors: _Tensors, per_s: float | None, counter: BoundaryCounter | None) -> Boundary:
    return Boundary(
        tensors=tensors.names,
        request_bytes=tensors.request_bytes,
        bytes_per_s=None if per_s is None else per_s * tensors.request_bytes,
        lost=counter.lost if counter else None,
        repeated=counter.repeated if counter else None,
    )


def _arriving_per_s(board: BoardStage) -> float | None:
    if board.requests_per_s is None:
        return None
    return board.requests_per_s + (board.errors_per_s or 0.0)


def _memory(
    stage: PlannedStage, devices: Mapping[str, DeviceRecord], now_s: float
) -> tuple[int | None, bool]:
    """Return the memory of those agents with recent statistics that serve a stage.

    Returns:
        The largest resident memory among these agents, in bytes (None: unknown); and whether any of
        these agents serves several stages.
    """
    found = [
        (device.load.rss_bytes, len(device.serves) > 1)
        for name in stage.devices
        if (device := devices.get(name)) is not None
        and device.load is not None
        and device.load.rss_bytes
        and device.is_fresh(now_s)
    ]
    largest = max((rss_bytes for rss_bytes, _ in found), default=None)
    return largest, any(shares for _, shares in found)


def _total(
    boards: Iterable[BoardStage], figure: Callable[[BoardStage], float | None]
) -> float | None:
    values = [value for board in boards if (value := figure(board)) is not None]
    return sum(values) if values else None


def _mean(
    boards: Iterable[BoardStage], figure: Callable[[BoardStage], float | None]
) -> float | None:
    """Return the mean of a value over boards, weighted by each board's requests per second.

    Boards that do not report the value are left out. If no board has requests, the mean is not
    weighted. If no board reports the value, the result is None.
    """
    weighted = [
        (value, board.requests_per_s or 0.0)
        for board in boards
        if (value := figure(board)) is not None
    ]
    weight = sum(share for _, share in weighted)
    if weight:
        return sum(value * share for value, share in weighted) / weight
    return sum(value for value, _ in weighted) / len(weighted) if weighted else None


def _bottleneck(stages: tuple[Stage, ...]) -> int | None:
    if not stages:
        return None
    measured = all(stage.invoke_ms is not None for stage in stages)

    def period_ms(stage: Stage) -> float:
        invoke_ms = stage.invoke_ms if measured else None
        return (stage.predicted_ms if invoke_ms is None else invoke_ms) / max(1, len(stage.devices))

    slowest = max(stages, key=period_ms)
    return slowest.index if period_ms(slowest) > 0 else None
