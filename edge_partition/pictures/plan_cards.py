"""Draw the cards of a plan's boards: each board's times and memory at full load."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, TypeAlias

from edge_partition.pictures import svg
from edge_partition.planning.cost_model import MIB
from edge_partition.planning.stage_memory import AGENT_RAM_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_partition.planning.cost_model import StageCost
    from edge_partition.planning.fleet import Device
    from edge_partition.planning.plan import Plan, PlannedStage

    BoardCost: TypeAlias = tuple[Device, StageCost]

_PADDING, _GAP = 16, 14
#: Height of a card without the text of :func:`_role`, and height of this text, in pixels.
_HEIGHT, _ROLE_HEIGHT = 198, 18
_MOST_IN_A_ROW = 3
#: Two boards' shares of busy time are equal if they differ by less than this number.
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Card:
    """The content of a card: a board of a stage, or several boards with equal figures.

    Attributes:
        stage: Index of the stage.
        start: Index of the stage's first operator.
        stop: Index of the stage's last operator, plus 1.
        devices: The boards.
        cost: Cost of the stage on each of the boards.
        share: Share of the stage's requests that each board serves, from 0 to 1. Replicas share
            the requests in proportion to their speed.
        use: Share of time, from 0 to 1, for which this stage occupies the board's processors or its
            link, whichever is busy longer. The share is for the plan's largest throughput.
        ram_bytes: Memory that the board's agent needs for all of the board's stages, in bytes.
        is_bottleneck: Whether these boards limit the plan's throughput. False if all boards of the
            plan limit the throughput equally.
        other_stages: Indexes of the other stages that the boards serve.
    """

    stage: int
    start: int
    stop: int
    devices: tuple[Device, ...]
    cost: StageCost
    share: float
    use: float
    ram_bytes: int
    is_bottleneck: bool
    other_stages: tuple[int, ...]


def plan_cards(plan: Plan) -> list[Card]:
    """Return the cards of a plan's boards, in the order of the stages.

    Replicas with equal figures share a card.
    """
    uses = [stage.bottleneck_ms / (plan.bottleneck_ms or 1) for stage in plan.stages]
    stages_of: dict[str, list[int]] = {}
    for index, stage in enumerate(plan.stages):
        for device in stage.devices:
            stages_of.setdefault(device.name, []).append(index)
    loads = {name: sum(uses[index] for index in indexes) for name, indexes in stages_of.items()}
    limit = max(loads.values()) - _TOLERANCE
    limiting = {name for name, load in loads.items() if load > limit}
    cards = []
    for index, stage in enumerate(plan.stages):
        rates = [1 / (cost.bottleneck_ms or 1) for cost in stage.costs]
        for group in _equal_boards(stage, stages_of):
            device, cost = group[0]
            indexes = stages_of[device.name]
            cards.append(
                Card(
                    stage=index,
                    start=stage.start,
                    stop=stage.stop,
                    devices=tuple(device for device, _ in group),
                    cost=cost,
                    share=1 / (cost.bottleneck_ms or 1) / sum(rates),
                    use=uses[index],
                    ram_bytes=_ram_bytes(plan, device, indexes),
                    is_bottleneck=device.name in limiting and len(limiting) < len(loads),
                    other_stages=tuple(other for other in indexes if other != index),
                )
            )
    return cards


def cards_height(cards: list[Card]) -> float:
    """Return the height of all rows of cards, in pixels."""
    return -(-len(cards) // _columns(cards)) * (_height(cards) + _GAP)


def draw_cards(cards: list[Card], left: float, top: float, width: float) -> Iterator[str]:
    """Yield the SVG elements of the cards. The cards are in rows.

    Args:
        cards: The cards.
        left: x of the left edge of each row, in pixels.
        top: y of the upper edge of the first row, in pixels.
        width: Width of each row, in pixels.
    """
    columns, height = _columns(cards), _height(cards)
    each = (width - _GAP * (columns - 1)) / columns
    for index, card in enumerate(cards):
        row, column = divmod(index, columns)
        x, y = left + column * (each + _GAP), top + row * (height + _GAP)
        yield from _frame(card, x, y, each, height)
        yield from _head(card, x + _PADDING, y, each - 2 * _PADDING)
        figures_y = y + height - _HEIGHT + 79
        yield from _figures(card, x + _PADDING, figures_y, each - 2 * _PADDING)


def _height(cards: list[Card]) -> float:
    return _HEIGHT + _ROLE_HEIGHT * any(map(_role, cards))


def _columns(cards: list[Card]) -> int:
    """Return the number of cards in a row. All rows have about the same number of cards."""
    rows = -(-len(cards) // _MOST_IN_A_ROW)
    return -(-len(cards) // rows)


def _equal_boards(
    stage: PlannedStage, stages_of: dict[str, list[int]]
) -> Iterator[list[BoardCost]]:
    """Yield groups of a stage's boards, the slowest group first.

    The boards of a group have equal times, equal memory limits and the same stages.
    """

    def figures(board: BoardCost) -> tuple[float, ...]:
        device, cost = board
        times_ms = (cost.invoke_ms, cost.handling_ms, cost.busy_ms, cost.transfer_ms)
        return (-cost.bottleneck_ms, *times_ms, device.ram_mib, *stages_of[device.name])

    boards = sorted(zip(stage.devices, stage.costs, strict=True), key=figures)
    for _, group in groupby(boards, figures):
        yield list(group)


def _ram_bytes(plan: Plan, device: Device, indexes: list[int]) -> int:
    """Return the memory that a board's agent needs for the stages ``indexes``, in bytes.

    Each stage's ``ram_bytes`` includes the agent's own memory. The result includes the agent's own
    memory only once.
    """
    stages = [plan.stages[index] for index in indexes]
    costs = [stage.costs[stage.devices.index(device)] for stage in stages]
    return sum(cost.ram_bytes for cost in costs) - (len(costs) - 1) * AGENT_RAM_BYTES


def _frame(card: Card, x: float, y: float, width: float, height: float) -> Iterator[str]:
    colour, line = (svg.ALARM, 2.5) if card.is_bottleneck else (svg.RULE, 1)
    yield (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:g}" rx="8" '
        f'fill="#ffffff" stroke="{colour}" stroke-width="{line:g}"/>'
    )
    if card.is_bottleneck:
        # The tag is on the card's upper edge, so the boards' names can use the card's full width.
        tag, right = "bottleneck", x + width - _PADDING
        room = svg.text_width(tag, 13, bold=True) + 12
        yield (
            f'<rect x="{right + 6 - room:.1f}" y="{y - 4:.1f}" width="{room:.1f}" height="8" '
            'fill="#ffffff"/>'
        )
        yield svg.text(right, y + 4, tag, 13, colour=svg.ALARM, weight=700, anchor="end")


def _head(card: Card, left: float, top: float, width: float) -> Iterator[str]:
    """Yield the upper half of a card: text about the boards and the stage."""
    colour = svg.colour(card.stage)
    yield f'<rect x="{left:.1f}" y="{top + 17:.1f}" width="14" height="14" rx="3" fill="{colour}"/>'
    listed = ", ".join(device.name for device in card.devices)
    size = 17 if svg.fit(listed, width - 22, 17, bold=True) == listed else 14
    names = svg.fit_names((device.name for device in card.devices), width - 22, size, bold=True)
    yield svg.text(left + 22, top + 30, names, size, weight=700)
    for line, words in enumerate(filter(None, (_place(card), _role(card)))):
        y = top + 52 + _ROLE_HEIGHT * line
        yield svg.text(left, y, svg.fit(words, width, 13), 13, colour=svg.MUTED)


def _figures(card: Card, left: float, top: float, width: float) -> Iterator[str]:
    """Yield the lower half of a card: times and memory, with gauges.

    One gauge shows the share of time for which the stage occupies the board's processors, with
    inferences and messages, at the plan's largest throughput. A second gauge shows the same for the
    board's link. A third gauge shows the memory as a share of the board's memory limit.
    """
    cost = card.cost
    full_ms = (cost.bottleneck_ms or 1) / card.use if card.use else 1
    rows = (
        (0, "compute", svg.milliseconds(cost.invoke_ms), None),
        (19, "messages", svg.milliseconds(cost.handling_ms), cost.busy_ms / full_ms),
        (53, "link", svg.milliseconds(cost.transfer_ms), cost.transfer_ms / full_ms),
        (87, "RAM", *_ram(card)),
    )
    for below, name, figure, share in rows:
        yield svg.text(left, top + below, name, 13, colour=svg.MUTED)
        yield svg.text(left + width, top + below, figure, 14, weight=600, anchor="end")
        if share is not None:
            yield from _gauge(left, top + below + 7, width, share, svg.colour(card.stage))


def _gauge(x: float, y: float, width: float, share: float, colour: str) -> Iterator[str]:
    yield f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="7" rx="3.5" fill="#eaeef2"/>'
    if share > 0:
        filled = max(7, width * min(share, 1))
        yield (
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{filled:.1f}" height="7" rx="3.5" '
            f'fill="{colour}"/>'
        )


def _place(card: Card) -> str:
    last = card.stop - 1
    operators = f"operators {card.start} to {last}" if last > card.start else f"operator {last}"
    return f"stage {card.stage}: {operators}"


def _role(card: Card) -> str:
    """Return text for a card: each board's share of the requests, and the boards' other stages.

    If a board serves all requests and no other stage, the text is the name of the board's preset in
    ``fleet.toml``. The text is empty if the board has no preset.
    """
    words = []
    if card.share < 1 - _TOLERANCE:
        each = " each" if len(card.devices) > 1 else ""
        words.append(f"{card.share:.0%} of the requests{each}")
    if card.other_stages:
        plural = "s" * (len(card.other_stages) > 1)
        words.append(f"also stage{plural} {', '.join(map(str, card.other_stages))}")
    return ", ".join(words) or card.devices[0].board or ""


def _ram(card: Card) -> tuple[str, float]:
    needed_mib, limit_mib = card.ram_bytes / MIB, card.devices[0].ram_mib
    if math.isinf(limit_mib):
        return f"{svg.mebibytes(needed_mib)}, no limit", 0.0
    return svg.mebibytes(needed_mib, limit_mib), needed_mib / limit_mib
