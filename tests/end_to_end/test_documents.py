"""What the documents tell to type is understood, and the README's walk works as it stands."""

from __future__ import annotations

import re
import shlex
import shutil
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest
from checkout import CHECKOUT
from commands import run
from desk import EXAMPLES

from broker_config import cli as broker_config
from device_agent import __main__ as device_agent
from device_agent.config import make_config
from edge_core.contract.tensors import encode_tensors
from edge_partition import cli as edge_partition
from edge_partition.bundles.bundle import read_bundle
from edge_partition.bundles.run_bundle import whole_interpreter
from edge_partition.inputs.load_inputs import load_input
from edge_partition.planning.fleet import load_fleet
from edge_partition.planning.plan_split import Plan
from mqtt_monitor import cli as mqtt_monitor

if TYPE_CHECKING:
    import numpy as np
    from desk import Desk

    from edge_partition.model.load_model import LoadedTflite

ROOT = CHECKOUT
README = ROOT / "README.md"
DOCUMENTS = [README, *sorted((ROOT / "docs").glob("*.md"))]
GROUPS = {"edge-partition": edge_partition.app, "mqtt-monitor": mqtt_monitor.app}
PARSERS = {"device-agent": device_agent._parser(), "broker-config": broker_config._parser()}
#: Files that the commands read, wherever a reader has theirs.
FILES = ("fleet.toml", "plan.json", "model.tflite", "model.keras", "fleet.jsonl")


def blocks(path: Path, *languages: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)
    return [text for language, text in found if language in languages]


def commands(text: str) -> list[list[str]]:
    """Return the words of each line, without its comment and what is for the shell."""
    lines = [shlex.split(line, comments=True) for line in text.replace("\\\n", "").splitlines()]
    return [line[: line.index(">")] if ">" in line else line for line in lines if line]


COMMANDS = sorted(
    {
        (path.name, *words)
        for path in DOCUMENTS
        for block in blocks(path, "sh", "")
        for words in commands(block)
        if words[0] in GROUPS or words[0] in PARSERS
    }
)


def parse(group: click.Group, words: list[str]) -> None:
    program, *options = words
    if options and not options[0].startswith("-"):
        command = group.get_command(click.Context(group), options[0])
        assert command is not None
        command.make_context(options[0], options[1:])
    else:
        group.make_context(program, options)


@pytest.mark.parametrize("line", COMMANDS, ids=" ".join)
def test_every_command_in_the_documents_is_understood(
    line: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGE_PARTITION_BROKER", "mqtt://127.0.0.1:1883")
    for name in FILES:
        Path(name).touch()
    shutil.copytree(EXAMPLES, "examples", ignore=shutil.ignore_patterns("images"))
    Path("build").mkdir()
    words = list(line[1:])
    if words[0] in GROUPS:
        parse(GROUPS[words[0]], words)
    else:
        PARSERS[words[0]].parse_args(words[1:])


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_in_the_documents_is_read(path: Path, tmp_path: Path) -> None:
    for text in blocks(path, "toml"):
        file = tmp_path / "file.toml"
        file.write_text(text)
        if "device" in tomllib.loads(text):
            assert load_fleet(file).devices
        else:
            assert make_config({"state_dir": str(tmp_path)}, file).name


def test_the_readmes_walk_from_boards_to_answers(
    desk: Desk,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The commands and the programs as they stand, with a small model for the large one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    names = {
        "mqtt://HUB:1883": desk.url,
        "mobilenet-v3-large": model.stem,
        "MobileNetV3Large": str(model),
    }

    def ours(text: str) -> str:
        for theirs, own in names.items():
            text = text.replace(theirs, own)
        return text

    Path("photos").mkdir()
    for image in sorted((EXAMPLES / "digits" / "images").iterdir())[::40]:
        shutil.copy(image, Path("photos") / f"{image.stem}.jpg")
    photos = sorted(map(str, Path("photos").iterdir()))
    (fleet,) = (text for text in blocks(README, "toml") if text.startswith("# fleet.toml\n"))
    Path("fleet.toml").write_text(fleet)
    desk.start_agents(*(board.name for board in load_fleet(Path("fleet.toml")).devices))

    (walk,) = (text for text in blocks(README, "sh") if "edge-partition profile" in text)
    printed = {}
    for words in commands(ours(walk)):
        if words[0] == "export":
            monkeypatch.setenv(*words[1].split("=", 1))
            continue
        given = [name for word in words for name in (photos if "*" in word else [word])]
        result = run(*given)
        assert result.returncode == 0, (given, result.stderr)
        printed[words[1]] = result.stdout
    assert set(printed) == {"profile", "split", "verify", "deploy", "run"}
    assert all(photo in printed["run"] for photo in photos)

    bundle = read_bundle(Path("build"))
    images = [load_input(Path(photo), bundle.manifest.inputs) for photo in photos]
    whole = whole_interpreter(bundle)
    expected = [whole.invoke(encode_tensors(bundle.manifest.inputs, image)) for image in images]
    assert len(set(expected)) > 1
    (program,) = (text for text in blocks(README, "python") if "with Pipeline" in text)
    (name,) = {spec.name for spec in bundle.manifest.inputs}
    arrays = [image[name] for image in images]
    shutil.copy(photos[0], Path("photos") / "cat.jpg")
    answers: list[np.ndarray] = []
    program = ours(program).replace("...", "answers.append(scores)")
    exec(  # noqa: S102 -- our own document
        program, {"image": arrays[0], "images": arrays, "answers": answers}
    )
    assert [answer.tobytes() for answer in answers] == expected

    (whole_way,) = (text for text in blocks(README, "python") if "split_model" in text)
    found: dict[str, Any] = {}
    exec(ours(whole_way), found)  # noqa: S102 -- our own document
    assert found["bundle"].manifest == bundle.manifest
    assert found["model"].tflite.sha256 == bundle.manifest.model.sha256
    assert "exact: True" in capsys.readouterr().out


def test_the_planners_example_says_that_the_best_plan_is_no_worse(
    digits_model: LoadedTflite, tmp_path: Path
) -> None:
    planning = ROOT / "docs" / "planning.md"
    file = tmp_path / "fleet.toml"
    file.write_text(blocks(planning, "toml")[0])
    fleet = load_fleet(file)
    boards = {device.name.replace("-", "_"): device for device in fleet.devices}
    graph = digits_model.tflite.graph
    (program,) = blocks(planning, "python")
    # The document's operators are MobileNetV3Large's.
    program = program.replace("124", str(len(graph.operators))).replace("60", str(graph.cuts[3]))
    *lines, question = program.strip().splitlines()
    known: dict[str, Any] = {"graph": graph, "fleet": fleet, **boards}
    exec("\n".join(lines), known)  # noqa: S102
    assert isinstance(known["mine"], Plan)
    assert known["mine"].boards == 3
    assert eval(question, known) is True  # noqa: S307
