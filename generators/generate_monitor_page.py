"""Write docs/monitoring/web-*.png: screenshots of ``mqtt-monitor web`` with running boards.

    sudo python generators/generate_monitor_page.py --minutes 20

Five emulated boards measure and run MobileNetV3Large and the digits model. The script needs root,
because each board has a share of a processor and a memory limit. The screenshots are 1280 and 390
pixels wide, light and dark. Nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from playwright.sync_api import sync_playwright

from edge_partition.client.pipeline import Pipeline
from edge_partition.emulation.desk_fleet import DeskFleet
from edge_partition.emulation.limit_board import board_limits
from edge_partition.planning.fleet import Device, Fleet

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).parents[1]
_PICTURES = _ROOT / "docs" / "monitoring"
_BIN = Path(sys.executable).parent
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
_RAM_MIB = 128
#: Each board's share of a processor: the boards of the large model, then of the small model.
_LARGE = {"pi-4-a": 0.4, "pi-4-b": 0.4, "pi-3": 0.2}
_SMALL = {"zero-1": 0.1, "zero-2": 0.1}


def fleet_file(folder: Path, shares: dict[str, float]) -> Path:
    """Write a fleet file for ``split`` and return its path."""
    path = folder / f"{'-'.join(shares)}.toml"
    path.write_text(
        "\n".join(
            f'[[device]]\nname = "{name}"\nram_mib = {_RAM_MIB}\nspeed_gmac_s = {20 * share}\n'
            for name, share in shares.items()
        )
    )
    return path


def command(*words: object) -> None:
    """Run one of this project's commands."""
    subprocess.run([str(_BIN / "edge-partition"), *map(str, words)], check=True)


@contextmanager
def streaming(deployment: str, url: str, rate_per_s: float) -> Iterator[None]:
    """Send requests at a constant rate within the context."""
    ended = threading.Event()

    def work() -> None:
        with Pipeline(deployment, url, timeout_s=60) as pipeline:
            rng = np.random.default_rng(0)
            item = {
                spec.name: rng.standard_normal(spec.shape).astype(spec.dtype)
                for spec in pipeline.manifest.inputs
            }
            paced = itertools.takewhile(
                lambda _: not ended.wait(1 / rate_per_s), itertools.repeat(item)
            )
            for _ in pipeline.stream(paced):
                pass

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield
    finally:
        ended.set()
        worker.join()


def take_pictures(address: str) -> None:
    """Write the four screenshots."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=_FLAGS)
        for width, height in ((1280, 800), (390, 844)):
            for scheme in ("light", "dark"):
                context = browser.new_context(
                    viewport={"width": width, "height": height}, color_scheme=scheme
                )
                page = context.new_page()
                page.goto(address)
                page.get_by_label("Deployment").select_option("mobilenet-v3-large")
                # The page shows the times of requests that it saw.
                page.wait_for_timeout(12_000)
                path = _PICTURES / f"web-{width}-{scheme}.png"
                page.screenshot(path=path, full_page=True)
                context.close()
        browser.close()


def main() -> None:
    """Run the fleet, then write the screenshots."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--minutes",
        type=float,
        default=20,
        help="duration of the streams before the screenshots, in minutes (default: 20)",
    )
    options = parser.parse_args()
    shares = {**_LARGE, **_SMALL}
    fleet = Fleet(
        tuple(
            Device(name, ram_mib=_RAM_MIB, speed_gmac_s=share, threads=1, cores=share)
            for name, share in shares.items()
        )
    )
    os.environ["TZ"] = "UTC"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        desk = stack.enter_context(DeskFleet(fleet, limits=board_limits(fleet, 1.0)[0]))
        os.environ["EDGE_PARTITION_BROKER"] = desk.url
        words = [str(_BIN / "mqtt-monitor"), "web", "--listen", "127.0.0.1:0"]
        monitor: Any = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        stack.callback(monitor.wait)
        stack.callback(monitor.kill)
        address = monitor.stdout.readline().strip()
        for model, boards, weights in (
            ("MobileNetV3Large", _LARGE, ["--weights", "seeded"]),
            (_ROOT / "examples" / "digits" / "digits.keras", _SMALL, []),
        ):
            build, file = folder / Path(model).stem, fleet_file(folder, boards)
            command("profile", model, "--fleet", file, *weights)
            command("split", model, "--fleet", file, "--stages", len(boards), *weights, "-o", build)
            command("deploy", build)
        stack.enter_context(streaming("mobilenet-v3-large", desk.url, 12))
        stack.enter_context(streaming("digits", desk.url, 5))
        time.sleep(options.minutes * 60)
        take_pictures(address)


if __name__ == "__main__":
    main()
