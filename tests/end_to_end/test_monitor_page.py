"""The page of ``mqtt-monitor web`` in a real browser, with real boards."""

from __future__ import annotations

import json
import signal
import subprocess
import time
import urllib.request
from contextlib import contextmanager
from importlib import resources
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from any_topic import any_topic
from browsers import LAPTOP, PHONE
from desk import BOARDS, PATIENCE_S, make_bundle, wait_until
from monitors import MONITOR, shown, stream

from edge_core.contract.topics import ONLINE, Topics
from edge_core.mqtt.broker_address import BrokerAddress
from edge_core.mqtt.connection import Connection
from edge_partition.boards.deploy_bundle import Deployer, DeploymentRefusedError
from edge_partition.client.pipeline import Pipeline
from edge_partition.model.load_model import load_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    from desk import Desk

    from edge_partition.bundles.bundle import Bundle

#: What Chromium itself says of a server that is away; nothing of the page's.
NETWORK = "Failed to load resource: net::ERR_"
HOSTILE = "<img src=x onerror=alert(1)><b>&amp;"


class Server:
    """``mqtt-monitor web``, which may be killed and started anew at the same address."""

    def __init__(self, *words: object) -> None:
        self._words = [MONITOR, "web", *map(str, words)]
        self.address = "127.0.0.1:0"
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [*self._words, "--listen", self.address], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.address = urlsplit(self.process.stdout.readline().strip()).netloc
        assert self.address

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def serving(*words: object) -> Iterator[Server]:
    server = Server(*words)
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def opened(
    browser: Any,
    server: Server,
    size: tuple[int, int] = LAPTOP,
    **options: Any,
) -> Iterator[Any]:
    """Open the page; check that it asks no other host and logs no errors."""
    width, height = size
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_S * 1000)
    requests: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.goto(f"http://{server.address}/")
    page.locator('#connection[data-state="live"]').wait_for()
    yield page
    assert {urlsplit(url).netloc for url in requests if not url.startswith("data:")} == {
        server.address
    }
    assert [text for text in complaints if not text.startswith(NETWORK)] == []
    context.close()


def said(page: Any, selector: str, text: str) -> None:
    page.locator(selector).filter(has_text=text).first.wait_for()


def board(page: Any, name: str) -> Any:
    return page.locator(f'tr[data-board="{name}"]')


def positive(page: Any, selector: str, name: str) -> list[float]:
    """Return the values above 0 of some elements."""
    found = page.locator(selector).evaluate_all(
        "(all, name) => all.map(element => Number(element.dataset[name] ?? 0))", name
    )
    return [value for value in found if value > 0]


def report(url: str, generation: str, result: Any) -> str:
    """Publish a client's report of a request; return the request's id."""
    name = f"{int(result.latency_ms * 1e6):016x}"
    document = {
        "request": name,
        "generation": generation,
        "latency_ms": result.latency_ms,
        "trace": [vars(stage) for stage in result.trace],
    }
    with Connection(BrokerAddress.parse(url, environ={}), "test-client") as connection:
        topic = Topics().trace("test-client")
        connection.publish_and_wait(any_topic(topic), json.dumps(document).encode())
    return name


def test_the_page_shows_a_working_fleet_an_offline_board_and_a_lost_connection(
    browser: Any,
    three_boards: Desk,
    digits_bundle: Bundle,
    images: list[dict[str, np.ndarray]],
) -> None:
    desk = three_boards
    with serving("--broker", desk.url) as server, opened(browser, server) as page:
        assert page.get_by_role("status").first.inner_text() == "● live"
        for name in BOARDS:
            assert "online" in board(page, name).inner_text()
        assert "No deployments yet" in page.locator("#deployment-facts").inner_text()

        with Deployer(desk.url) as deployer:
            deployer.deploy(digits_bundle)
        said(page, "#pipeline", "Stage 2")
        said(page, "#events", "is live")
        with stream(desk, images):
            wait_until(lambda: len(positive(page, ".stage", "rate")) == 3, "every stage's rate")
            wait_until(
                lambda: len(positive(page, ".boundary", "bytesPerS")) == 4, "bytes at each boundary"
            )
            assert page.locator(".stage.bottleneck").count() == 1
            assert page.get_by_text("◆ bottleneck").count() == 1
            said(page, "#plan tbody tr", "%")
            page.locator("#requests button").first.wait_for()
        # The rates return to 0 after the stream.
        wait_until(lambda: positive(page, ".stage", "rate") == [], "the stages to rest")

        with Pipeline("digits", desk.url) as pipeline:
            result = list(pipeline.stream(iter(images[:2])))[-1]
        name = report(desk.url, digits_bundle.manifest.generation, result)
        said(page, "#waterfall caption", name)
        parts = page.locator("#waterfall tbody tr").evaluate_all(
            "rows => rows.map(row => [row.dataset.kind, Number(row.dataset.ms)])"
        )
        assert len(parts) == 2 * len(BOARDS) + 1
        assert sum(ms for _, ms in parts) == pytest.approx(result.latency_ms, rel=0.05)
        on_boards = [ms for kind, ms in parts if kind != "wire"]
        told = [ms for stage in result.trace for ms in (stage.queue_ms, stage.invoke_ms)]
        assert on_boards == pytest.approx(told)
        assert max(on_boards) > 0

        page.get_by_role("button", name="Stage 1", exact=True).click()
        detail = page.get_by_role("dialog")
        for tensor in digits_bundle.manifest.stages[1].inputs:
            # The page cuts long names off.
            assert tensor.name[:100] in detail.inner_text()
        page.keyboard.press("Escape")
        assert detail.is_hidden()

        desk.kill_agent("board-1")
        wait_until(lambda: not desk.is_online("board-1"), "the broker's word for it")
        said(page, 'tr[data-board="board-1"]', "offline")
        said(page, "#alerts", "Board board-1 is offline; deployment digits needs this board.")
        assert "Board board-1 is offline" in page.locator("#announce").inner_text()
        assert "broken" in page.locator("#deployment-facts").inner_text()
        said(page, "#events", "Board board-1 is offline.")

        server.kill()
        lost = page.get_by_role("alert").filter(has_text="The connection to the monitor is lost")
        lost.wait_for()
        assert "not connected" in page.get_by_role("status").first.inner_text()
        desk.start_agent("board-1")
        assert desk.availability["board-1"] == ONLINE
        server.start()
        page.get_by_role("status").filter(has_text="live").wait_for()
        lost.wait_for(state="hidden")
        said(page, 'tr[data-board="board-1"]', "online")


@pytest.mark.alone
def test_a_board_whose_cable_is_cut_is_offline_within_its_keep_alive(
    browser: Any,
    desk: Desk,
) -> None:
    keepalive_s = 3
    desk.start_agent("board-0", "--keepalive", str(keepalive_s))
    with serving("--broker", desk.url) as server, opened(browser, server) as page:
        said(page, 'tr[data-board="board-0"]', "online")
        agent = desk.agents["board-0"]
        # As with a cut cable: no more messages, and the connection is not closed.
        agent.send_signal(signal.SIGSTOP)
        cut = time.monotonic()
        try:
            said(page, 'tr[data-board="board-0"]', "offline")
            # After 1.5 keep-alive times (MQTT 5.0, section 3.1.2.10), checked at intervals.
            assert keepalive_s / 2 < time.monotonic() - cut < 3 * keepalive_s
            said(page, "#events", "Board board-0 is offline.")
        finally:
            agent.send_signal(signal.SIGCONT)
        said(page, 'tr[data-board="board-0"]', "online")


def recording(
    path: Path, *, boards: int, deployments: int, model: str = "Net", **of_stages: Any
) -> Path:
    """Write a recording of one minute, with all fields."""
    start_s = time.time() - 70
    tensor = [{"name": "m/expanded_conv_1/add", "dtype": "float32", "shape": [1, 8, 8, 24]}]
    lines: list[dict[str, Any]] = [
        {"recording": 1, "prefix": "edge/v1", "broker": "mqtt://hub:1883", "time_s": start_s}
    ]

    def say(at_s: float, topic: str, document: Any) -> None:
        text = document if isinstance(document, str) else json.dumps(document)
        lines.append({"time_s": start_s + at_s, "topic": f"edge/v1/{topic}", "text": text})

    share = boards // deployments
    for number in range(deployments):
        stages = [
            {
                "index": index, "devices": [f"pi-{number * share + index}"],
                "file": f"stages/{index}.tflite", "sha256": "0" * 64, "size_bytes": 4_000_000,
                "inputs": tensor, "outputs": tensor,
                "predicted": {"invoke_ms": 8.0, "ram_bytes": 60_000_000}, **of_stages,
            }
            for index in range(share)
        ]  # fmt: skip
        manifest = {
            "schema": 1, "deployment": f"net-{number}", "generation": f"g{number}",
            "model": {"name": model, "sha256": "0" * 64, "quantization": "none"},
            "inputs": tensor, "outputs": tensor, "stages": stages,
        }  # fmt: skip
        say(0, f"deployment/net-{number}/manifest", manifest)
    for period in range(13):
        for number in range(boards):
            name, at_s = f"pi-{number}", 1 + 5.0 * period
            if period == 0:
                profile = {"device": name, "cpu_model": model, "ram_mib": 64, "cores": 4}
                say(0, f"device/{name}/availability", "online")
                say(0.5, f"device/{name}/profile", profile)
            deployment, index = divmod(number, share)
            invoke_ms = 7.0 + index
            count = 100 * period
            stage = {
                "deployment": f"net-{deployment}", "generation": f"g{deployment}", "stage": index,
                "requests": count, "errors": {}, "unanswerable": 0,
                "queue_total_ms": count * 1.5, "invoke_total_ms": count * invoke_ms,
                "queue_ms": {"mean": 1.5, "max": 4.0, "count": 100},
                "invoke_ms": {"mean": invoke_ms, "max": 2 * invoke_ms, "count": 100},
            }  # fmt: skip
            stats = {
                "device": name, "sequence": period, "period_s": 5.0, "time_s": start_s + at_s,
                "uptime_s": 5.0 * period, "rss_bytes": 40_000_000 + 1_000_000 * (number % 28),
                "cpu_percent": 20.0 + number % 70, "temperature_c": 45.0 + number % 30,
                "throttled": number % 30 > 28, "queue_length": number % 5, "stages": [stage],
                "link": {
                    "interface": model[:9], "signal_dbm": -61.0, "speed_mbit_s": 72,
                    "received_bytes": 10_000_000 * period, "sent_bytes": 5_000_000 * period,
                },
            }  # fmt: skip
            say(at_s, f"device/{name}/stats", stats)
    for number in range(8):
        trace = [
            {"stage": index, "device": f"pi-{index}", "queue_ms": 1.5, "invoke_ms": 7.0 + index}
            for index in range(share)
        ]
        told = {"request": f"{number:016x}", "generation": "g0", "trace": trace}
        latency_ms = sum(8.5 + index for index in range(share)) + 4 + number
        say(62 + 0.1 * number, "client/me/trace", {**told, "latency_ms": latency_ms})
    say(63, "device/pi-1/availability", "offline")
    lines.sort(key=lambda line: line["time_s"])
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@contextmanager
def played(file: Path) -> Iterator[Server]:
    """Serve a recording; wait until it is replayed."""
    with serving("--replay", file) as server:

        def ended() -> bool:
            url = f"http://{server.address}/metrics"
            with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
                return b'device_up{device="pi-1"} 0' in answer.read()

        wait_until(ended, "the end of the recording")
        yield server


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    file = tmp_path_factory.mktemp("page") / "fleet.jsonl"
    with played(recording(file, boards=8, deployments=2)) as server:
        yield server


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [LAPTOP, PHONE])
def test_axe_finds_nothing(
    browser: Any,
    small: Server,
    size: tuple[int, int],
    scheme: str,
) -> None:
    axe = resources.files("axe_playwright_python").joinpath("axe.min.js").read_text()

    def violations() -> list[str]:
        found = page.evaluate("axe.run()")["violations"]
        return [f"{item['id']}: {item['nodes'][0]['html']}" for item in found]

    # The page's security policy forbids other scripts, axe included.
    with opened(browser, small, size, color_scheme=scheme, bypass_csp=True) as page:
        page.locator("#requests button").first.wait_for()
        page.evaluate(axe)
        assert violations() == []
        page.get_by_role("button", name="Stage 0", exact=True).click()
        assert violations() == []
        page.keyboard.press("Escape")
        page.evaluate("document.querySelector('h1').remove()")
        assert violations(), "axe finds what is wrong"


def test_a_phone_needs_no_sideways_scrolling(browser: Any, small: Server) -> None:
    with opened(browser, small, PHONE, has_touch=True, is_mobile=True) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE[0]
        page.get_by_role("button", name="Stage 3", exact=True).tap()
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE[0]


def test_differences_from_the_plan_have_sign_and_colour(browser: Any, small: Server) -> None:
    with opened(browser, small) as page:
        rows = page.locator("#plan tbody tr")
        assert "−13 %" in rows.nth(0).inner_text()  # noqa: RUF001
        assert "▲" not in rows.nth(1).inner_text().split("MiB")[0]
        slow = rows.nth(3).locator("td").nth(2)
        assert slow.inner_text() == "▲ +25 %"
        assert slow.get_attribute("class") == "bad"


def test_a_boards_link_is_shown_with_the_traffic_of_all_programs(
    browser: Any, small: Server
) -> None:
    with opened(browser, small) as page:
        # 20 requests/s of 6,144 bytes each, in and out.
        said(page, 'tr[data-board="pi-0"]', "120 KiB/s in, 120 KiB/s out, 72 Mbit/s, -61 dBm")
        page.get_by_label("Sort by").select_option("link")
        page.get_by_role("button", name="pi-0", exact=True).first.click()
        told = page.locator("#detail-body section").filter(has_text="Link to the broker")
        assert told.locator("dd").all_inner_texts() == [
            "Net",
            "72 Mbit/s",
            "-61 dBm",
            "1.9 MiB/s",
            "977 KiB/s",
        ]


def test_deployments_are_chosen_and_read_with_the_keyboard(browser: Any, small: Server) -> None:
    with opened(browser, small) as page:
        choice = page.get_by_label("Deployment")
        choice.focus()
        page.keyboard.press("ArrowDown")
        said(page, "#deployment-facts", "net-1: Net")
        page.get_by_role("button", name="Stage 2", exact=True).focus()
        page.keyboard.press("Enter")
        assert "net-1, stage 2" in page.get_by_role("dialog").inner_text()
        assert "m/expanded_conv_1/add" in page.get_by_role("dialog").inner_text()
        page.keyboard.press("Escape")
        # The focus stays, although the page is updated every second.
        page.wait_for_timeout(1500)
        assert page.evaluate("document.activeElement.textContent") == "Stage 2"


def test_reduced_motion_stands_still(browser: Any, small: Server) -> None:
    def motion(**options: str) -> str:
        with opened(browser, small, **options) as page:
            page.locator(".flowing").first.wait_for(state="attached")
            name: str = page.evaluate(
                "getComputedStyle(document.querySelector('.flowing'), '::before').animationName"
            )
        return name

    assert motion() == "flow"
    assert motion(reduced_motion="reduce") == "none"


def test_markup_is_text(browser: Any, tmp_path: Path) -> None:
    file = recording(tmp_path / "fleet.jsonl", boards=2, deployments=1, model=HOSTILE)
    with played(file) as server, opened(browser, server) as page:
        assert "a recording" in page.get_by_role("status").first.inner_text()
        assert HOSTILE in page.locator("#deployment-facts").inner_text()
        page.get_by_role("button", name="pi-0", exact=True).first.click()
        assert HOSTILE in page.get_by_role("dialog").inner_text()
        assert page.locator("img").count() == 0


def test_a_stage_shows_its_layers_and_wrapped_constants(
    browser: Any,
    desk: Desk,
    tmp_path: Path,
) -> None:
    import keras  # noqa: PLC0415 -- seconds, which other tests need not take

    image = keras.Input((8, 8, 3))
    before = keras.layers.Conv2D(4, 3, name="conv")(image)
    gate = keras.layers.ReLU(6.0, name="gate")(before + 3.0) * (1.0 / 6.0)
    x = keras.layers.Multiply(name="gated")([image[:, 1:-1, 1:-1, :1], gate])
    keras.Model(image, keras.layers.Conv2D(2, 3, name="head")(x)).save(tmp_path / "gate.keras")
    loaded = load_model(str(tmp_path / "gate.keras"))
    bundle = make_bundle(loaded, tmp_path / "build", stages=2, deployment="gate")
    for name in BOARDS[:2]:
        desk.start_agent(name)
    with Deployer(desk.url) as deployer:
        deployer.deploy(bundle)
    lines: list[str] = []
    with serving("--broker", desk.url) as server, opened(browser, server) as page:
        for index in range(2):
            page.get_by_role("button", name=f"Stage {index}", exact=True).click()
            said(page, "#detail-body section", "Layers")
            layers = page.locator("#detail-body section").filter(has_text="Layers")
            lines += layers.locator("li").all_inner_texts()
            page.keyboard.press("Escape")
    assert lines == [
        "conv",
        "conv__add_1: Add(x2=3.0)",
        "gate",
        "gate__multiply_1: Multiply(x2=0.16666666666666666)",
        *[line for line in lines if "GetItem(key=" in line],
        "gated",
        "head",
    ]


def test_a_refused_deployment_is_shown(
    browser: Any,
    desk: Desk,
    digits_bundle: Bundle,
) -> None:
    for name in BOARDS[:2]:
        desk.start_agent(name)
    # An agent without stages needs more.
    desk.start_agent("board-2", "--ram-mib", "24")
    with serving("--broker", desk.url) as server, opened(browser, server) as page:
        with Deployer(desk.url) as deployer, pytest.raises(DeploymentRefusedError) as refused:
            deployer.deploy(digits_bundle)
        said(
            page, "#events", f"Board board-2 refused deployment digits: {refused.value.reason[:80]}"
        )
        page.get_by_role("button", name="board-2", exact=True).first.click()
        told = page.locator("#detail-body section").filter(has_text="Refused").inner_text()
        assert digits_bundle.manifest.generation in told
        assert "no-memory" in told
    fleet = shown(desk.url, "--once", "--json")
    boards = {device["name"]: device for device in fleet["devices"]}
    assert [item["code"] for item in boards["board-2"]["refusals"]] == ["no-memory"]
    assert boards["board-0"]["refusals"] == []


def test_layers_with_markup_are_text(browser: Any, tmp_path: Path) -> None:
    wrapped = {"name": HOSTILE, "operation": f"keras.{HOSTILE}", "constants": [f"x2={HOSTILE}"]}
    of_stages = {"layers": ["conv", HOSTILE], "more_layers": 1234, "wrapped": [wrapped]}
    file = recording(tmp_path / "fleet.jsonl", boards=2, deployments=1, **of_stages)
    with played(file) as server, opened(browser, server) as page:
        page.get_by_role("button", name="Stage 1", exact=True).click()
        said(page, "#detail-body li", f"{HOSTILE}: {HOSTILE}(x2={HOSTILE})")
        said(page, "#detail-body li", "and 1,234 more")
        assert page.locator("img").count() == 0


@pytest.mark.alone
def test_the_page_stays_usable_with_500_boards(browser: Any, tmp_path: Path) -> None:
    file = recording(tmp_path / "fleet.jsonl", boards=500, deployments=50)
    with played(file) as server, opened(browser, server) as page:
        said(page, "#boards-page", "of 500")
        assert page.locator("#boards tbody tr").count() == 25
        assert page.locator("#deployment option").count() == 50
        page.get_by_label("Sort by").select_option("cpu")
        said(page, "#boards tbody tr:first-child", "89 %")
        page.get_by_role("button", name="Next").click()
        page.get_by_text("26 to 50 of 500", exact=True).wait_for()
        page.get_by_role("searchbox").fill("pi-49")
        page.get_by_text("1 to 11 of 11", exact=True).wait_for()
        assert page.locator("#alerts li").count() == 8
        page.get_by_label("Deployment").select_option("net-49")
        said(page, "#pipeline", "pi-499")


def test_a_login_is_required_and_remembered(browser: Any, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("correct horse battery\n")
    file = recording(tmp_path / "fleet.jsonl", boards=2, deployments=1)
    with serving("--replay", file, "--token-file", token) as server:
        context = browser.new_context()
        page = context.new_page()
        page.set_default_timeout(PATIENCE_S * 1000)
        page.goto(f"http://{server.address}/")
        page.get_by_label("Password").fill("wrong")
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("alert").filter(has_text="Wrong password.").wait_for()
        page.get_by_label("Password").fill("correct horse battery")
        page.keyboard.press("Enter")
        board(page, "pi-0").wait_for()
        server.kill()
        page.get_by_role("alert").filter(has_text="lost").wait_for()
        token.write_text("another horse battery\n")
        server.start()
        page.get_by_label("Password").wait_for()
        context.close()
