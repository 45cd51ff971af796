"""Emulated boards keep their limits: the kernel's for processor and memory, and the link's."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edge_core.contract.tensors import encode_tensors
from edge_partition.boards.deploy_bundle import Deployer
from edge_partition.client.pipeline import Pipeline
from edge_partition.emulation.desk_fleet import DeskFleet
from edge_partition.emulation.limit_board import BoardLimiter, EmulationError, Limits, board_limits
from edge_partition.emulation.measure_emulated import measure_emulated
from edge_partition.emulation.shaped_link import ShapedLink
from edge_partition.planning.cost_model import invoke_ms, total_work_macs
from edge_partition.planning.fleet import Device, Fleet
from edge_partition.tflite.read_tflite import read_tflite

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from edge_partition.bundles.bundle import Bundle

MIB = 2**20

pytestmark = pytest.mark.alone


@contextmanager
def limiter() -> Iterator[BoardLimiter]:
    try:
        limiter = BoardLimiter()
    except EmulationError as error:
        pytest.skip(str(error))
    try:
        yield limiter
    finally:
        limiter.close()


def test_a_board_gets_no_more_of_the_processor_than_its_share() -> None:
    burn = (
        "import time\n"
        "end = time.monotonic() + 1.5\n"
        "while time.monotonic() < end: pass\n"
        "print(time.process_time())"
    )
    spent = {}
    with limiter() as limits:
        for share in (0.2, 0.9):
            words = limits.command(
                f"share-{share}", Limits(share, None), [sys.executable, "-c", burn]
            )
            spent[share] = float(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)
    assert 0 < spent[0.2] < 0.3 * 1.5
    assert spent[0.9] > spent[0.2]


def test_a_board_is_as_slow_after_a_pause_as_it_is_in_a_long_run() -> None:
    work = (
        "import time\n"
        "slowness = []\n"
        "for _ in range(40):\n"
        "    time.sleep(0.02)\n"
        "    wall, spent = time.monotonic(), time.thread_time()\n"
        "    while time.thread_time() < spent + 0.002: pass\n"
        "    slowness.append((time.monotonic() - wall) / 0.002)\n"
        "print(sum(slowness) / len(slowness))"
    )
    cpu = min(os.sched_getaffinity(0))
    with limiter() as limits:
        words = limits.command("pause", Limits(0.25, None, cpu), [sys.executable, "-c", work])
        if not limits._is_paced.get(cpu):
            pytest.skip("the kernel lets nobody here keep quotas to the millisecond")
        slowness = float(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)
    # With a quota alone, 2 ms of work run at full speed: a ratio of 1.
    assert slowness > 2.5


def test_a_board_over_its_memory_is_killed_and_one_within_it_is_not() -> None:
    with limiter() as limits:
        ended = {}
        for size_mib in (20, 200):
            words = [sys.executable, "-c", f"data = b'x' * ({size_mib} << 20)"]
            words = limits.command(f"memory-{size_mib}", Limits(0.9, 100 * MIB), words)
            ended[size_mib] = subprocess.run(words, check=False).returncode
    assert ended == {20: 0, 200: -signal.SIGKILL}


def test_nothing_is_left_behind() -> None:
    with limiter() as limits:
        words = limits.command("gone", Limits(0.5, 100 * MIB), [sys.executable, "-c", ""])
        subprocess.run(words, check=True)
    assert not list(Path("/sys/fs/cgroup").glob("**/edge-partition-*-gone"))


def test_groups_of_a_process_that_was_killed_are_removed_by_the_next() -> None:
    with limiter():
        pass  # Skips where nobody may limit anything.
    script = (
        "import os, signal\n"
        "from edge_partition.emulation.limit_board import BoardLimiter, Limits\n"
        "BoardLimiter().command('dead', Limits(0.2, None), ['true'])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script]) as process:
        process.wait()
    label = f"edge-partition-{process.pid}-dead"
    assert list(Path("/sys/fs/cgroup").glob(f"**/{label}"))
    BoardLimiter()
    assert not list(Path("/sys/fs/cgroup").glob(f"**/{label}"))


def test_shares_are_proportional_to_speeds_and_fit_the_machine() -> None:
    fleet = Fleet((Device("slow", speed_gmac_s=8, ram_mib=64), Device("fast", speed_gmac_s=32)))
    limits, scale = board_limits(fleet, host_gmac_s=80)
    assert scale == 1
    assert limits["slow"].ram_bytes == 64 * MIB
    assert limits["fast"].ram_bytes is None
    assert limits["fast"].cpu_share == 4 * limits["slow"].cpu_share
    _, scale = board_limits(fleet, host_gmac_s=0.1)
    assert scale < 1


def test_boards_are_spread_so_that_no_processor_is_overloaded() -> None:
    fleet = Fleet(tuple(Device(f"b{index}", speed_gmac_s=index) for index in range(1, 6)))
    limits, _ = board_limits(fleet, host_gmac_s=1)
    load = Counter[int]()
    for board in limits.values():
        assert board.cpu is not None
        load[board.cpu] += board.cpu_share
    assert set(load) <= os.sched_getaffinity(0)
    assert 0.8 < max(load.values()) < 0.86


def test_a_share_too_small_for_the_kernel_is_refused_by_name() -> None:
    fleet = Fleet((Device("tiny", speed_gmac_s=0.1), Device("fast", speed_gmac_s=4)))
    with pytest.raises(EmulationError, match="tiny would get"):
        board_limits(fleet, host_gmac_s=40)


def test_a_link_allocates_its_time_in_order() -> None:
    link = ShapedLink(mbit_s=8, delay_ms=100)
    assert link.send(1_000_000, now=5) == (6, 6.1)
    assert link.send(500_000, now=5.5) == pytest.approx((6.5, 6.6))
    assert link.send(1_000_000, now=10) == pytest.approx((11, 11.1))


def test_bytes_over_a_shaped_link_arrive_complete_and_no_faster_than_the_link() -> None:
    data = bytes(range(256)) * 4096
    with socket.create_server(("127.0.0.1", 0)) as far_end:

        def echo() -> None:
            connection, _ = far_end.accept()
            with connection:
                while received := connection.recv(65536):
                    connection.sendall(received)

        thread = threading.Thread(target=echo)
        thread.start()
        words = [sys.executable, "-m", "edge_partition.emulation.shaped_link"]
        words += ["--to", f"127.0.0.1:{far_end.getsockname()[1]}"]
        words += ["--mbit-s", "40", "--delay-ms", "5"]
        with subprocess.Popen(words, stdout=subprocess.PIPE) as link:
            try:
                assert link.stdout is not None
                port = int(link.stdout.readline())
                started = time.monotonic()
                with socket.create_connection(("127.0.0.1", port)) as client:
                    sender = threading.Thread(target=client.sendall, args=(data,))
                    sender.start()
                    back = b""
                    while len(back) < len(data):
                        back += client.recv(65536)
                    sender.join()
                seconds = time.monotonic() - started
            finally:
                link.terminate()
        thread.join()
    assert back == data
    # Both directions share the link: 2 x 1 MiB at 40 Mbit/s.
    assert seconds >= 2 * len(data) * 8 / 40e6


def test_emulated_boards_give_the_whole_models_answers(
    digits_bundle: Bundle, images: list[dict[str, np.ndarray]], whole_outputs: list[bytes]
) -> None:
    names = sorted({name for stage in digits_bundle.manifest.stages for name in stage.devices})
    fleet = Fleet(tuple(Device(name, ram_mib=128, link_mbit_s=200) for name in names))
    limits = {name: Limits(0.4, 128 * MIB) for name in names}
    with limiter():
        pass
    with DeskFleet(fleet, limits=limits, shape_links=True) as desk:
        with Deployer(desk.url) as deployer:
            deployer.deploy(digits_bundle)
        with Pipeline("digits", desk.url) as pipeline:
            outputs = [
                encode_tensors(pipeline.manifest.outputs, result.outputs)
                for result in pipeline.stream(images)
            ]
    assert outputs == whole_outputs


def test_an_emulated_board_is_as_fast_as_the_fleet_file_says(model: Path) -> None:
    fleet = Fleet((Device("slow", speed_gmac_s=2), Device("fast", speed_gmac_s=6)))
    tflite = read_tflite(model)
    with limiter():
        pass
    emulated = measure_emulated(fleet, tflite)
    graph = tflite.graph
    for before, device in zip(fleet.devices, emulated.fleet.devices, strict=True):
        whole_ms = invoke_ms(graph, device, 0, len(graph.operators))
        speed_gmac_s = before.speed_gmac_s * emulated.scale
        assert whole_ms == pytest.approx(total_work_macs(graph) / speed_gmac_s / 1e6, rel=1e-4)
        assert emulated.limits[device.name].cpu_share == pytest.approx(
            speed_gmac_s / emulated.host_gmac_s
        )


def test_the_demo_on_emulated_boards_plans_with_times_measured_here(
    model: Path, tmp_path: Path
) -> None:
    with limiter():
        pass
    fleet = tmp_path / "fleet.toml"
    fleet.write_text(
        "".join(
            f'[[device]]\nname = "{name}"\nram_mib = 128\nspeed_gmac_s = {speed}\n'
            for name, speed in (("slow", 2), ("fast", 6))
        )
    )
    words = ["demo", str(model), "--emulate", str(fleet), "--count", "4", "--json"]
    result = subprocess.run(
        [Path(sys.executable).parent / "edge-partition", *words],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["identical"] == document["inputs"] == 4
    replicas = [stage["replicas"][0] for stage in document["plan"]["stages"]]
    assert {(item["source"], item["handling_source"]) for item in replicas} == {
        ("measured", "measured")
    }
    assert document["planned_s"] > 3 * max(item["invoke_ms"] for item in replicas) / 1000
