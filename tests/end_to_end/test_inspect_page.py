"""The page of ``inspect --html`` in a real browser, opened from disk."""

from __future__ import annotations

import itertools
import shlex
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from browsers import LAPTOP, PHONE
from tflite_models import FlatModel

from edge_partition.model.load_model import LoadedTflite
from edge_partition.pictures.describe_model import describe_model
from edge_partition.pictures.inspect_page import inspect_page
from edge_partition.tflite.read_tflite import read_tflite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from edge_partition.tflite.graph import Graph

SPLIT = ["edge-partition", "split", "my digits.keras"]


class Opened:
    """An open page, the URLs that it requested, and its console messages and errors."""

    def __init__(self, browser: Any, path: Path, size: tuple[int, int], **options: Any) -> None:
        width, height = size
        self.context = browser.new_context(viewport={"width": width, "height": height}, **options)
        self.context.set_offline(True)
        self.page = self.context.new_page()
        self.page.set_default_timeout(20_000)
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.url = path.as_uri()
        self.page.goto(self.url)

    def close(self) -> None:
        """Assert that the page requested nothing but itself and reported no error."""
        assert self.requests == [self.url]
        assert self.complaints == []
        self.context.close()


@pytest.fixture(scope="module")
def digits_page(digits_model: LoadedTflite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "digits.html"
    path.write_text(inspect_page(describe_model(digits_model), SPLIT))
    return path


@pytest.fixture
def opened(browser: Any, digits_page: Path) -> Iterator[Callable[..., Any]]:
    pages: list[Opened] = []

    def open_page(size: tuple[int, int] = LAPTOP, **options: Any) -> Any:
        pages.append(Opened(browser, digits_page, size, **options))
        return pages[-1].page

    yield open_page
    for page in pages:
        page.close()


def cells(page: Any, name: str) -> list[int]:
    found = page.locator(f"#parts [data-{name}]")
    return [int(value) for value in found.evaluate_all(f"e => e.map(x => x.dataset.{camel(name)})")]


def camel(name: str) -> str:
    first, *rest = name.split("-")
    return first + "".join(word.capitalize() for word in rest)


def press_at(page: Any, graph: Graph, position: int) -> None:
    """Move the chart's reading to a cut position by keys, and cut there."""
    chart = page.get_by_role("slider", name="Cut position")
    chart.focus()
    page.keyboard.press("Home")
    tens, ones = divmod(graph.cuts.index(position), 10)
    for key in ["PageUp"] * tens + ["ArrowRight"] * ones:
        page.keyboard.press(key)
    assert chart.get_attribute("aria-valuenow") == str(position)
    page.keyboard.press("Enter")


def parts_of(graph: Graph, cuts: list[int]) -> list[tuple[int, int]]:
    bounds = [0, *cuts, len(graph.operators)]
    return list(itertools.pairwise(bounds))


def test_search_finds_a_wrapped_operation_and_shows_its_constant(
    opened: Callable[..., Any], digits_model: LoadedTflite
) -> None:
    page = opened()
    wrapped = describe_model(digits_model)["wrapped_operations"]
    multiplication = next(item for item in wrapped if item["expression"].endswith("1/6"))
    search = page.get_by_role("searchbox")
    search.fill(multiplication["layer"])
    assert page.locator("#hits").inner_text() == "1 of 1"
    details = page.get_by_role("complementary", name="Details")
    assert "x × 1/6" in details.inner_text()  # noqa: RUF001
    assert "0.1666" in details.inner_text()
    assert f"number {multiplication['operators'][0]}" in details.inner_text()

    search.fill("multiply_1")
    count = sum("multiply_1" in item["layer"] for item in wrapped)
    assert count > 1
    assert page.locator("#hits").inner_text() == f"1 of {count}"
    page.keyboard.press("Enter")
    assert page.locator("#hits").inner_text() == f"2 of {count}"
    page.get_by_role("button", name="Previous match").click()
    assert page.locator("#hits").inner_text() == f"1 of {count}"
    search.fill("no such layer")
    assert page.locator("#hits").inner_text() == "none"


def test_two_cuts_make_three_parts_with_the_graph_s_own_figures(
    opened: Callable[..., Any], digits_model: LoadedTflite
) -> None:
    page, graph = opened(), digits_model.tflite.graph
    assert cells(page, "bytes-out") == [graph.boundary_bytes(len(graph.operators))]
    # A cut within a squeeze-and-excite gate, where several tensors cross.
    several = next(position for position in graph.cuts if len(graph.boundary(position)) > 2)
    cuts = [several, graph.cuts[-20]]
    for cut in cuts:
        press_at(page, graph, cut)
    parts = parts_of(graph, cuts)
    assert cells(page, "bytes-in") == [graph.boundary_bytes(start) for start, _ in parts]
    assert cells(page, "bytes-out") == [graph.boundary_bytes(stop) for _, stop in parts]
    assert cells(page, "macs") == [graph.macs(*part) for part in parts]
    assert cells(page, "weights") == [graph.weight_bytes(*part) for part in parts]
    assert cells(page, "peak") == [graph.peak_activation_bytes(*part) for part in parts]
    for tensor in graph.boundary(several):
        assert page.locator(f'#parts [title="{tensor.name}"]').count()

    words = shlex.split(page.locator("#command").inner_text())
    assert words[:3] == SPLIT
    assert words[3::2] == ["--cut"] * 2
    assert [graph.position_after(name) for name in words[4::2]] == cuts
    page.get_by_role("button", name="No cuts").click()
    assert len(cells(page, "bytes-out")) == 1
    assert page.locator("#command").is_hidden()


def test_click_on_the_chart_cuts_there_and_suggestions_send_less(
    opened: Callable[..., Any], digits_model: LoadedTflite
) -> None:
    page, graph = opened(), digits_model.tflite.graph
    chart = page.get_by_role("slider", name="Cut position")
    box = chart.bounding_box()
    chart.click(position={"x": box["width"] * 0.4, "y": box["height"] / 2})
    by_hand = int(chart.get_attribute("aria-valuenow"))
    assert cells(page, "bytes-out")[0] == graph.boundary_bytes(by_hand)
    page.get_by_role("button", name="Keep to compare").click()

    page.get_by_role("button", name="Suggested cuts for 2 parts").click()
    total = graph.macs(0, len(graph.operators))
    balanced = [cut for cut in graph.cuts if total / 4 <= graph.macs(0, cut) <= total * 3 / 4]
    fewest = min(graph.boundary_bytes(cut) for cut in balanced)
    assert cells(page, "bytes-out")[0] == fewest
    kept = page.locator("#kept [data-sent]")
    assert kept.evaluate_all("e => e.map(x => Number(x.dataset.sent))") == [
        graph.boundary_bytes(by_hand),
        fewest,
    ]


def test_graph_is_read_moved_and_cut_by_keys_alone(opened: Callable[..., Any]) -> None:
    page = opened()
    first = page.get_by_role("button", name="Operator 0,")
    first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    details = page.get_by_role("complementary", name="Details")
    assert "number 1" in details.inner_text()
    page.keyboard.press("c")
    assert page.locator("#parts [data-macs]").count() == 2
    place = page.locator("#graph > g").get_attribute("transform")
    page.keyboard.press("+")
    assert page.locator("#graph > g").get_attribute("transform") != place
    page.keyboard.press("Escape")
    assert details.is_hidden()
    assert page.evaluate("document.activeElement.dataset.op") == "1"


def test_graph_zooms_with_the_wheel_and_moves_with_the_mouse(opened: Callable[..., Any]) -> None:
    page = opened()
    world = page.locator("#graph > g")
    page.locator("#graph").hover()

    def place() -> str:
        transform: str = world.get_attribute("transform")
        return transform

    before = place()
    page.mouse.wheel(0, -300)
    page.wait_for_function("before => document.querySelector('#graph > g')"
                           ".getAttribute('transform') !== before", arg=before)  # fmt: skip
    before = place()
    page.mouse.down()
    page.mouse.move(900, 300, steps=4)
    page.mouse.up()
    assert place() != before
    assert page.locator("#details").is_hidden()


@pytest.mark.parametrize("width", [360, PHONE[0]])
def test_a_phone_needs_no_sideways_scrolling(opened: Callable[..., Any], width: int) -> None:
    page = opened((width, PHONE[1]), has_touch=True, is_mobile=True)
    page.get_by_role("button", name="Suggested cuts for 3 parts").tap()
    page.get_by_role("button", name="Keep to compare").tap()
    page.get_by_role("searchbox").fill("multiply_1")
    page.locator("#table-card > summary").tap()
    assert page.locator("#parts [data-macs]").count() == 3
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("document.body.scrollWidth") <= width


def test_a_finger_reads_the_chart_before_it_cuts(opened: Callable[..., Any]) -> None:
    page = opened(PHONE, has_touch=True, is_mobile=True)
    chart = page.get_by_role("slider", name="Cut position")
    before = chart.get_attribute("aria-valuenow")
    chart.tap(position={"x": 120, "y": 80})
    assert chart.get_attribute("aria-valuenow") != before
    assert page.locator("#parts [data-macs]").count() == 1
    page.get_by_role("button", name="Cut here").tap()
    assert page.locator("#parts [data-macs]").count() == 2


def test_hostile_names_are_shown_and_never_run(browser: Any, tmp_path: Path) -> None:
    name = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&amp;"
    model = FlatModel()
    x = model.tensor(f"{name}in", (1, 4))
    weight = model.constant(f"{name}weight", np.ones((1, 4), np.float32))
    first = model.tensor(f"m/{name}layer/Add", (1, 4))
    model.operator("ADD", [x, weight], [first])
    last = model.tensor(f"m/{name}last/Add", (1, 4))
    model.operator("ADD", [first, x], [last])
    tflite = read_tflite(model.to_bytes([x], [last]), name=name)
    loaded = LoadedTflite(tflite=tflite, name=name, quantization="none", weights="trained")
    path = tmp_path / "hostile.html"
    path.write_text(inspect_page(describe_model(loaded), SPLIT))

    opened = Opened(browser, path, LAPTOP)
    page = opened.page
    press_at(page, tflite.graph, 1)
    page.get_by_role("searchbox").fill("layer")
    page.locator("#table-card > summary").click()
    assert page.locator("h1").inner_text() == name
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 2
    assert shlex.split(page.locator("#command").inner_text())[:3] == SPLIT
    opened.close()


def test_page_of_one_operator_opens(browser: Any, tmp_path: Path) -> None:
    model = FlatModel()
    x, y = model.tensor("x", (1, 4)), model.tensor("y", (1, 4))
    model.operator("RELU", [x], [y])
    tflite = read_tflite(model.to_bytes([x], [y]), name="one")
    loaded = LoadedTflite(tflite=tflite, name="one", quantization="none", weights="trained")
    path = tmp_path / "one.html"
    path.write_text(inspect_page(describe_model(loaded), SPLIT))
    opened = Opened(browser, path, PHONE, color_scheme="dark")
    assert "no possible cut" in opened.page.locator("#reading").inner_text()
    assert opened.page.get_by_role("button", name="Operator 0,").count() == 1
    opened.close()
