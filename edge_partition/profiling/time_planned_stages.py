"""Has boards time the very stages that plans would give them, until plans change no more.

The times of most stages are pieced together from slices
(:mod:`edge_partition.planning.stage_times`), with an error of some 10 %, and a plan picks those
that came out too low. So the stages of the plans that a user is likely to ask for are timed
themselves, and what is planned with that is timed again.

A board is faster in one half minute than in the next, by heat or by other work, and of stages that
were timed once a plan picks those that had the better one. So the stages of plans are timed three
times, a round of plans apart each, and their median counts.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from edge_partition.planning.fleet import Fleet
from edge_partition.planning.plan_split import InfeasiblePlanError, PlanRequestError, plan_split
from edge_partition.profiling.apply_profiles import apply_profiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from edge_partition.planning.plan import Objective, Plan
    from edge_partition.profiling.profile_boards import Board, Profiler, Progress
    from edge_partition.profiling.profile_store import BoardProfile, ProfileError, ProfileStore
    from edge_partition.tflite.read_tflite import TfliteModel

#: As often are the stages of plans timed.
_TIMES = 3
#: A round's plans move few cuts from the last round's, so that six or seven mostly do.
_ROUNDS = 10
#: Plans of each number of stages up to this one are looked at.
_MOST_STAGES = 8


def refine_profiles(
    profiler: Profiler,
    boards: Sequence[Board],
    model: TfliteModel,
    store: ProfileStore,
    *,
    fleet: Fleet,
    force: bool = False,
    plans: Callable[[Fleet, TfliteModel], Iterable[Plan]] | None = None,
    on_progress: Progress | None = None,
    on_profile: Callable[[BoardProfile], None],
) -> None:
    """Have boards time the stages that they have in the best plans, as far as they are not timed.

    Args:
        profiler: The line to them.
        boards: Those with a profile in ``store``.
        model: The model.
        store: Where profiles are kept; new ones are written there.
        fleet: The boards as plans will have them.
        force: Also boards that serve a deployment.
        plans: Returns the plans whose stages are timed; by default those that a user is likely to
            ask for.
        on_progress: As for :meth:`Profiler.measure`.
        on_profile: Called with each profile that was extended.

    Raises:
        ProfileRefusedError: A board refused or did not answer.
        ProfileError: A profile can't be used.
        WriteError: One can't be written.
    """
    online = {board.name: board for board in boards}
    present = Fleet(tuple(device for device in fleet.devices if device.name in online))

    profiles = {
        name: profile
        for name in online
        if (profile := store.newest(model.sha256, name)) is not None
    }

    timed = Counter(
        (name, (item.start, item.stop))
        for name, profile in profiles.items()
        for item in profile.slices
    )

    def keep(profile: BoardProfile) -> None:
        store.save(profile)
        profiles[profile.board] = profile
        on_profile(profile)

    for _ in range(_ROUNDS):
        measured = apply_profiles(present, model.graph, model.sha256, store, on_unusable=_refuse)
        wanted: dict[Board, set[tuple[int, int]]] = {}
        for plan in (plans or _likely_plans)(measured, model):
            for stage in plan.stages:
                for device in stage.devices:
                    wanted.setdefault(online[device.name], set()).add((stage.start, stage.stop))
        due = {
            board: sorted(ends for ends in stages if timed[board.name, ends] < _TIMES)
            for board, stages in wanted.items()
        }
        due = {board: stages for board, stages in due.items() if stages}
        if not due:
            return
        profiler.measure_stages(
            due, profiles, model, force=force, on_progress=on_progress, on_profile=keep
        )
        for board, stages in due.items():
            held = {(item.start, item.stop) for item in profiles[board.name].slices}
            for ends in stages:
                # A board without the memory for a stage is not asked again.
                timed[board.name, ends] += 1 if ends in held else _TIMES


def _likely_plans(fleet: Fleet, model: TfliteModel) -> Iterator[Plan]:
    counts = [None, *range(2, min(len(fleet.devices), _MOST_STAGES) + 1)]
    objectives: tuple[Objective, ...] = ("throughput", "latency")
    for objective in objectives:
        for stages in counts:
            try:
                yield plan_split(model.graph, fleet, objective, stages=stages)
            except (InfeasiblePlanError, PlanRequestError):
                continue  # Nothing of that many stages fits.


def _refuse(error: ProfileError) -> None:
    raise error
