"""``edge-partition simulate``: forecast a plan's throughput and latency, without boards."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_core.contract.messages import RECEIVE_MAXIMUM
from edge_core.errors import EdgePartitionError
from edge_core.program.click_program import json_option
from edge_partition.commands import _show
from edge_partition.planning.plan_document import PLAN_FILE
from edge_partition.planning.read_plan import read_plan
from edge_partition.simulation.simulate_plan import (
    DEFAULT_SPREAD,
    Failure,
    Stream,
    simulate_plan,
)

if TYPE_CHECKING:
    from edge_partition.planning.read_plan import PipelineTimes
    from edge_partition.simulation.simulate_plan import BoardForecast, Forecast

_EXPECTED = (
    "expected the output of `edge-partition plan MODEL --fleet fleet.toml --json`, or a bundle's "
    "folder"
)
#: Factor of the boards' times in the second forecast, because a board may be slower than estimated.
#: Near a board's limit, a little more time can make a queue grow.
_SLOWER = 1.1


class PlanFileError(EdgePartitionError):
    """A plan file can't be read.

    Attributes:
        path: The file, or ``on standard input``.
    """

    def __init__(self, path: str, problem: str) -> None:
        self.path = path
        super().__init__(f"The plan {path} {problem}; {_EXPECTED}.")


class _Failure(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    name = "BOARD@START+DURATION"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Failure:
        device, _, times = str(value).rpartition("@")
        start, _, duration = times.partition("+")
        try:
            return Failure(device, float(start), float(duration))
        except ValueError:
            self.fail(
                f"{value!r} does not describe a failure; expected BOARD@START+DURATION, such as "
                "pi-2@10+5",
                param,
                ctx,
            )


@click.command("simulate")
@click.argument("plan")
@click.option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    metavar="N",
    help="The number of requests that arrive per second. Default: a new request arrives as soon as "
    "--window allows one, as with `run`.",
)
@click.option(
    "--steady",
    is_flag=True,
    help="With --rate, requests arrive at equal intervals. Default: at random times (a Poisson "
    "process).",
)
@click.option(
    "--requests",
    type=click.IntRange(1),
    metavar="N",
    default=1000,
    show_default=True,
    help="The number of requests to simulate.",
)
@click.option(
    "--window",
    type=click.IntRange(1),
    metavar="N",
    help="The largest number of requests in flight at once. Default: the client adapts the number, "
    "as `run` does.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    default=30.0,
    show_default=True,
    help="The time after which a request without an answer fails, in seconds.",
)
@click.option(
    "--fail",
    "failures",
    type=_Failure(),
    multiple=True,
    help="BOARD goes offline START seconds after the start of the simulation, and comes back "
    "DURATION seconds later. Repeatable.",
)
@click.option(
    "--spread",
    type=click.FloatRange(0),
    metavar="RATIO",
    default=DEFAULT_SPREAD,
    show_default=True,
    help="The standard deviation of a board's inference times, divided by their mean. Used for "
    "boards whose variation was not measured.",
)
@click.option(
    "--receive-maximum",
    type=click.IntRange(1),
    metavar="N",
    default=RECEIVE_MAXIMUM,
    show_default=True,
    help="The largest number of requests that the broker sends a board before the board "
    "acknowledges one of them. The embedded broker has no such limit.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    metavar="N",
    default=0,
    show_default=True,
    help="The seed of all random numbers.",
)
@json_option
def command(
    *,
    plan: str,
    rate: float | None,
    steady: bool,
    requests: int,
    window: int | None,
    timeout: float,
    failures: tuple[Failure, ...],
    spread: float,
    receive_maximum: int,
    seed: int,
    as_json: bool,
) -> None:
    """Forecast throughput and latency of PLAN under a stream of requests.

    PLAN is a file with the output of `edge-partition plan --json`, a bundle's folder, or - for
    standard input. Arrivals, queues, links, boards and failures are all simulated.
    """
    if steady and rate is None:
        raise click.UsageError("--steady needs an arrival rate; add --rate N")
    times = read_plan(_read_document(plan))
    stream = Stream(
        requests=requests,
        rate_per_s=rate,
        steady=steady,
        window=window,
        timeout_s=timeout,
        failures=failures,
        receive_maximum=receive_maximum,
        spread=spread,
        seed=seed,
    )
    with _show.step_progress() as step:
        step("Simulating")
        forecast = simulate_plan(times, stream)
        slower = simulate_plan(times.slowed(dict.fromkeys(times.devices, _SLOWER)), stream)
    if as_json:
        document = {"model": times.model, "source": times.source, **asdict(stream)}
        if_slower = {
            "factor": _SLOWER,
            "throughput_per_s": slower.throughput_per_s,
            "latency_ms": slower.latency_ms,
        }
        _show.print_json({**document, **asdict(forecast), "if_slower": if_slower})
    else:
        _show_forecast(times, stream, forecast, slower)


def _read_document(plan: str) -> Any:
    path = Path(plan)
    name = "on standard input" if plan == "-" else plan
    try:
        if plan == "-":
            text = sys.stdin.read()
        else:
            text = (path / PLAN_FILE if path.is_dir() else path).read_text(encoding="utf-8")
        return json.loads(text)
    except OSError as error:
        raise PlanFileError(name, f"can't be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise PlanFileError(name, "is not JSON") from None


def _show_forecast(
    times: PipelineTimes, stream: Stream, forecast: Forecast, slower: Forecast
) -> None:
    latency = forecast.latency_ms
    _show.say(
        f"{times.model} under {_arrivals(stream)}: {forecast.throughput_per_s:.1f} requests/s; "
        f"latency {latency['median']:.1f} ms (median), {latency['p95']:.1f} ms or less for 95 of "
        f"100, {latency['p99']:.1f} ms or less for 99 of 100, {latency['max']:.1f} ms at most.",
        bold=True,
    )
    _show.say(forecast.limit)
    _show.say(
        f"With all boards {_SLOWER - 1:.0%} slower: {slower.throughput_per_s:.1f} requests/s; "
        f"latency {slower.latency_ms['median']:.1f} ms (median), {slower.latency_ms['p99']:.1f} ms "
        "or less for 99 of 100."
    )
    _show.show_table("", _COLUMNS, [_row(board) for board in forecast.boards], once=["requests"])
    _show.say(
        "Queue: requests that wait on the board. At broker: requests that wait at the broker for "
        "the board."
    )
    spent = ", ".join(
        f"{_SPENT[name]} {spent_ms:.1f} ms"
        for name, spent_ms in forecast.spent_ms.items()
        if spent_ms >= _SHOWN_MS
    )
    _show.say(f"The mean latency of {latency['mean']:.1f} ms is the sum of: {spent}.")
    outcomes = ", ".join(
        f"{count} {_OUTCOMES[name]}" for name, count in forecast.outcomes.items() if count
    )
    again = f"; {forecast.resent} messages sent again" if forecast.resent else ""
    overloaded = f", {forecast.overloaded} times because of an overloaded board"
    _show.say(
        f"{_show.count_of(forecast.requests, 'request')}: {outcomes}{again}"
        f"{overloaded if forecast.overloaded else ''}. The window allowed at most "
        f"{forecast.largest_window} requests in flight."
    )
    if forecast.energy_j is not None:
        _show.say(
            f"Energy: {forecast.energy_j:.3g} J for each answer, above the boards' idle power."
        )
    _show.say(f"The plan's times are {times.source}.")


def _row(board: BoardForecast) -> list[str]:
    return [
        ", ".join(map(str, board.stages)),
        board.device,
        str(board.served),
        f"{board.processor:.0%}".rstrip("%"),
        f"{board.link:.0%}".rstrip("%"),
        f"{board.queue_mean:.2f}",
        str(board.queue_max),
        f"{board.at_broker_mean:.2f}",
        str(board.at_broker_max),
    ]


_COLUMNS = (
    "stage",
    "board",
    ">requests",
    ">processor\nbusy %",
    ">link\nbusy %",
    ">queue\nmean",
    ">queue\nmax",
    ">at broker\nmean",
    ">at broker\nmax",
)
#: Shorter times, in milliseconds, are left out of the sentence about the mean latency.
_SHOWN_MS = 0.05
_OUTCOMES = {"answered": "answered", "timed_out": "timed out"}
_SPENT = {
    "source": "waiting to be sent",
    "resent": "waiting to be sent again",
    "broker": "at the broker",
    "link": "on links",
    "handling": "handling messages",
    "queue": "waiting for inference",
    "invoke": "inference",
}


def _arrivals(stream: Stream) -> str:
    if stream.rate_per_s is None:
        return f"{stream.requests} requests, the window always full"
    how = "at equal intervals" if stream.steady else "at random times"
    return f"{stream.requests} requests, {stream.rate_per_s:g} per second {how}"
