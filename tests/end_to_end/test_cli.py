"""The commands as processes: output, exit statuses and errors of one line."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import numpy as np
import pytest
from commands import BIN, failed, failed_here, run
from desk import EXAMPLES

from edge_partition.cli import COMMANDS

if TYPE_CHECKING:
    from pathlib import Path

    from desk import Desk

    from edge_partition.bundles.bundle import Bundle

IMAGES = sorted((EXAMPLES / "digits" / "images").iterdir())


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_every_command_has_help(command: list[str]) -> None:
    result = run("edge-partition", *command, "-h")
    assert result.returncode == 0
    assert "Usage: edge-partition" in result.stdout


def test_wrong_usage_is_status_2() -> None:
    assert run("edge-partition", "nonsense").returncode == 2
    assert run("edge-partition", "split").returncode == 2
    assert run("edge-partition", "split", EXAMPLES / "digits" / "digits.keras").returncode == 2


def test_split_verify_deploy_run_undeploy(
    three_boards: Desk, digits_bundle: Bundle, tmp_path: Path
) -> None:
    build = tmp_path / "build"
    model, url = digits_bundle.whole_file, three_boards.url
    split = run(
        "edge-partition", "split", model, "--stages", 3, "-o", build, "--name", "d", "--json"
    )
    assert split.returncode == 0, split.stderr
    assert len(json.loads(split.stdout)["plan"]["stages"]) == 3
    assert (build / "plan.svg").read_text().startswith("<")

    verify = run("edge-partition", "verify", build, *IMAGES[:4], "--json")
    assert verify.returncode == 0, verify.stderr
    assert json.loads(verify.stdout)["max_difference"] == 0

    deploy = run("edge-partition", "deploy", build, EDGE_PARTITION_BROKER=url)
    assert deploy.returncode == 0, deploy.stderr
    assert "d is live" in deploy.stdout

    status = run("edge-partition", "status", "--broker", url, "--json")
    assert status.returncode == 0, status.stderr
    document = json.loads(status.stdout)
    assert [device["state"] for device in document["devices"]] == ["online"] * 3
    assert [item["state"] for item in document["deployments"]] == ["live"]

    outputs = tmp_path / "outputs.npz"
    words = ["run", "d", *IMAGES[:5], "--broker", url, "-o", outputs]
    stream = run("edge-partition", *words, "--json")
    assert stream.returncode == 0, stream.stderr
    assert json.loads(stream.stdout)["requests"] == 5
    with np.load(outputs) as archive:
        assert [array.shape for array in archive.values()] == [(5, 1, 10)]

    undeploy = run("edge-partition", "undeploy", "d", "--broker", url)
    assert undeploy.returncode == 0, undeploy.stderr
    assert "No deployment 'd'" in failed("run", "d", IMAGES[0], "--broker", url)
    assert "No deployment 'd'" in failed("undeploy", "d", "--broker", url)
    assert "No deployment 'd'" in failed("status", "d", "--broker", url)


def test_bad_models_get_one_line_and_leave_no_bundle(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    build = tmp_path / "build"
    (tmp_path / "empty.tflite").touch()
    (tmp_path / "text.tflite").write_text("not a model")
    (tmp_path / "text.keras").write_text("not a model")
    (tmp_path / "subclassed.py").write_text(
        "import keras\n"
        "class Model(keras.Model):\n"
        "    def call(self, x):\n"
        "        return x\n"
        "def make():\n"
        "    return Model()\n"
    )
    options = ("--stages", 2, "-o", build)
    for name, what in [
        ("missing.tflite", "missing.tflite"),
        ("empty.tflite", "empty.tflite"),
        ("text.tflite", "text.tflite"),
        ("missing.keras", "missing.keras"),
        ("text.keras", "text.keras"),
    ]:
        assert what in failed_here(capfd, "split", tmp_path / name, *options)
    assert "MobileNetV3Large" in failed_here(capfd, "split", "MobileNetV3Larg", *options)
    result = subprocess.run(
        [BIN / "edge-partition", "split", "subclassed:make", *map(str, options)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert result.returncode == 1
    assert "subclass" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not build.exists()
    assert not list(tmp_path.glob(".build*"))


def test_an_error_about_weights_that_cannot_be_fetched_names_the_options(tmp_path: Path) -> None:
    # No download can work with this proxy, on a machine with or without a network.
    result = run(
        "edge-partition",
        "split",
        "MobileNetV3Small",
        "--stages",
        2,
        "-o",
        tmp_path / "build",
        https_proxy="http://127.0.0.1:9",
        HTTPS_PROXY="http://127.0.0.1:9",
        KERAS_HOME=str(tmp_path),
    )
    assert result.returncode == 1
    assert "--weights" in result.stderr
    assert "seeded" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "build").exists()


def test_bad_fleets_and_cuts_get_one_line(digits_bundle: Bundle, tmp_path: Path) -> None:
    model, fleet = digits_bundle.whole_file, tmp_path / "fleet.toml"
    options = ("--fleet", fleet, "-o", tmp_path / "build")
    assert "fleet.toml" in failed("split", model, *options)
    fleet.write_text('[[device]]\nname = "tiny"\nram_mib = 50\nstorage_mib = 4\n')
    line = failed("split", model, *options)
    assert "tiny" in line
    assert "short by" in line
    fleet.write_text('[[device]]\nname = "pi"\nram = 50\n')
    assert "ram_mib" in failed("split", model, *options)
    assert "nonsense" in failed("split", model, "--cut", "nonsense", "-o", tmp_path / "build")
    assert not (tmp_path / "build").exists()


def test_a_damaged_bundle_is_refused_with_the_file_named(
    digits_bundle: Bundle, tmp_path: Path
) -> None:
    build = tmp_path / "build"
    shutil.copytree(digits_bundle.path, build)
    stage = build / "stages" / "1.tflite"
    data = bytearray(stage.read_bytes())
    data[len(data) // 2] ^= 1
    stage.write_bytes(data)
    for command in ("verify", "deploy"):
        assert "stages/1.tflite" in failed(command, build)
    (build / "manifest.json").write_text("{}")
    assert "schema" in failed("verify", build)
    assert "no manifest.json" in failed("verify", tmp_path)


def test_a_folder_with_other_files_is_not_replaced(digits_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    line = failed("split", digits_bundle.whole_file, "--stages", 2, "-o", tmp_path)
    assert "not a bundle" in line
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_no_broker_and_bad_addresses_get_one_line(digits_bundle: Bundle) -> None:
    nobody = ("--broker", "mqtt://127.0.0.1:9")
    assert "No broker at mqtt://127.0.0.1:9" in failed("deploy", digits_bundle.path, *nobody)
    assert "No broker at" in failed("status", *nobody)
    assert "expected mqtt://" in failed("status", "--broker", "127.0.0.1")


def test_inputs_that_do_not_fit_get_one_line(
    three_boards: Desk, digits_bundle: Bundle, tmp_path: Path
) -> None:
    url = three_boards.url
    assert run("edge-partition", "deploy", digits_bundle.path, "--broker", url).returncode == 0
    wrong_shape, wrong_type = tmp_path / "shape.npy", tmp_path / "type.npy"
    np.save(wrong_shape, np.zeros((1, 32, 32, 3), np.float32))
    np.save(wrong_type, np.zeros((1, 96, 96, 3), np.complex64))
    text = tmp_path / "text.png"
    text.write_text("not a picture")
    for file, what in [
        (wrong_shape, "float32[1, 32, 32, 3]"),
        (wrong_type, "complex64[1, 96, 96, 3]"),
        (text, "text.png"),
        (tmp_path / "missing.png", "no such file"),
    ]:
        assert what in failed("run", "digits", file, "--broker", url)


def test_unknown_boards_are_named(desk: Desk, digits_bundle: Bundle) -> None:
    line = failed("deploy", digits_bundle.path, "--broker", desk.url)
    assert "Not online: board-0, board-1, board-2" in line


def test_an_agent_name_in_use_is_refused(desk: Desk, tmp_path: Path) -> None:
    desk.start_agent("board-0")
    words = ["--broker", desk.url, "--name", "board-0", "--state-dir", tmp_path / "other"]
    result = run("device-agent", *words)
    assert result.returncode == 1
    assert "already in use" in result.stderr
    assert "Traceback" not in result.stderr
    assert desk.is_online("board-0")


def test_the_demo_shows_equal_answers_and_its_accuracy(tmp_path: Path) -> None:
    result = run("edge-partition", "demo", "-o", tmp_path / "build")
    assert result.returncode == 0, result.stderr
    assert "360/360 identical" in result.stdout
    assert "Accuracy 9" in result.stdout
    # One prediction, beside the one measurement.
    (line,) = (line for line in result.stdout.splitlines() if "requests/s" in line)
    assert re.fullmatch(
        r"360 requests in [\d.]+ s: [\d.]+ requests/s \(predicted: [\d.]+ requests/s\)\.", line
    )
    assert (tmp_path / "build" / "plan.svg").exists()
