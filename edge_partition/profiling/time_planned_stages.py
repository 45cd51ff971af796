"""Have boards time, in several rounds, the stages of the plans that a user is likely to request.

The planner computes the times of most stages from the times of slices (ranges of operators), by a
fit (:mod:`edge_partition.planning.stage_times`). The fitted times have an error of about 10 %, and
the planner prefers stages whose fitted times are too low. To correct this, boards also time the
stages of the likely plans. The new times can change the plans. The next round then times the stages
of the changed plans.

Heat or other work can change the speed of a board within half a minute. The planner prefers stages
that were timed while their board was fast. To correct this, each planned stage is timed three
times, in different rounds, and the planner uses the median.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypeAlias

from edge_partition.planning.fleet import Fleet
from edge_partition.planning.plan_split import InfeasiblePlanError, PlanRequestError, plan_split
from edge_partition.profiling.apply_profiles import apply_profiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from edge_partition.planning.plan import Objective, Plan
    from edge_partition.profiling.profile_boards import Board, Profiler, Progress
    from edge_partition.profiling.profile_store import BoardProfile, ProfileError, ProfileStore
    from edge_partition.tflite.read_tflite import TfliteModel

#: A stage: its first operator, and the position after its last operator.
Ends: TypeAlias = tuple[int, int]

#: How often each planned stage is timed.
TIMES = 3
#: Largest number of rounds. Few cuts change from one round to the next, so six or seven rounds are
#: usual.
_ROUNDS = 10
#: Largest number of stages in a likely plan.
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
    """Have each board time its stages in the best plans, each stage up to :data:`TIMES` times.

    Args:
        profiler: The connection to the boards.
        boards: Boards with a profile in ``store``.
        model: The model.
        store: The boards' profiles are read from this store, and extended profiles are saved there.
        fleet: The boards for the plans. Boards that are not in ``boards`` are left out.
        force: Whether boards that serve a deployment also measure.
        plans: Called with a fleet and a model; returns the plans whose stages are timed. None: the
            plans that users are likely to request.
        on_progress: Called with (board, stages timed, number of stages), from several threads.
        on_profile: Called with each extended profile.

    Raises:
        ProfileRefusedError: A board refused or did not answer.
        ProfileError: A profile is not valid.
        WriteError: A profile cannot be written.
    """
    online = {board.name: board for board in boards}
    present = Fleet(tuple(device for device in fleet.devices if device.name in online))
    found = {name: store.newest(model.sha256, name) for name in online}
    profiles = {name: profile for name, profile in found.items() if profile is not None}
    timed = count_timings(profiles.values())

    def keep(profile: BoardProfile) -> None:
        store.save(profile)
        profiles[profile.board] = profile
        on_profile(profile)

    for _ in range(_ROUNDS):
        measured = apply_profiles(present, model.graph, model.sha256, store, on_unusable=_refuse)
        due = due_stages((plans or _likely_plans)(measured, model), timed)
        if not due:
            return
        profiler.measure_stages(
            {online[name]: stages for name, stages in due.items()},
            profiles,
            model,
            force=force,
            on_progress=on_progress,
            on_profile=keep,
        )
        timed += count_round(due, profiles)


def count_timings(profiles: Iterable[BoardProfile]) -> Counter[tuple[str, Ends]]:
    """Return how often each stage was timed. A key is (board name, (start, stop))."""
    return Counter(
        (profile.board, (item.start, item.stop)) for profile in profiles for item in profile.slices
    )


def count_round(
    due: Mapping[str, Iterable[Ends]], profiles: Mapping[str, BoardProfile]
) -> Counter[tuple[str, Ends]]:
    """Return how many timings a round adds to each stage. A key is (board name, (start, stop)).

    The round tried to time each stage in ``due`` once. A stage that still has no time exceeds the
    board's memory. Such a stage counts as timed :data:`TIMES` times, so that later rounds leave the
    stage out.

    Args:
        due: The stages that the round had to time, by board name.
        profiles: The boards' profiles after the round, by board name.
    """
    timings = count_timings(profiles.values())
    return Counter(
        {
            (name, ends): 1 if timings[name, ends] else TIMES
            for name, stages in due.items()
            for ends in stages
        }
    )


def due_stages(
    plans: Iterable[Plan], timed: Mapping[tuple[str, Ends], int]
) -> dict[str, list[Ends]]:
    """Return the stages in ``plans`` that boards still have to time, ascending, by board name.

    Args:
        plans: The plans.
        timed: How often each stage was timed, from :func:`count_timings`. Stages that were timed
            :data:`TIMES` times are left out of the result.
    """
    wanted: dict[str, set[Ends]] = {}
    for plan in plans:
        for stage in plan.stages:
            for device in stage.devices:
                wanted.setdefault(device.name, set()).add((stage.start, stage.stop))
    due = {
        name: sorted(ends for ends in stages if timed.get((name, ends), 0) < TIMES)
        for name, stages in wanted.items()
    }
    return {name: stages for name, stages in due.items() if stages}


def _likely_plans(fleet: Fleet, model: TfliteModel) -> Iterator[Plan]:
    counts = [None, *range(2, min(len(fleet.devices), _MOST_STAGES) + 1)]
    objectives: tuple[Objective, ...] = ("throughput", "latency")
    for objective in objectives:
        for stages in counts:
            try:
                yield plan_split(model.graph, fleet, objective, stages=stages)
            except (InfeasiblePlanError, PlanRequestError):
                continue  # No plan with this number of stages fits.


def _refuse(error: ProfileError) -> None:
    raise error
