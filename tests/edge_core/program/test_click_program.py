"""The click programs: one line for wrong usage, and the same options everywhere."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import edge_partition.cli
import mqtt_monitor.cli
from device_agent.__main__ import _parser
from edge_core.program.broker_options import BROKER_OPTIONS, PREFIX_OPTION, find_misuse

if TYPE_CHECKING:
    import click

BIN = Path(sys.executable).parent
PROGRAMS = ("edge-partition", "mqtt-monitor", "device-agent", "broker-config")
CONNECTING = [
    ("edge_partition", "profile"),
    ("edge_partition", "deploy"),
    ("edge_partition", "undeploy"),
    ("edge_partition", "status"),
    ("edge_partition", "run"),
    ("mqtt_monitor", "home_assistant"),
    ("mqtt_monitor", "metrics"),
    ("mqtt_monitor", "record"),
    ("mqtt_monitor", "traces"),
    ("mqtt_monitor", "web"),
]
#: click's own names of types, which say nothing to a person.
TYPE_NAMES = {"TEXT", "PATH", "FILENAME", "DIRECTORY", "INTEGER", "FLOAT", "RANGE"}


def commands() -> list[click.Command]:
    modules = [
        import_module(f"{name}.commands.{command.replace('-', '_')}")
        for name, program in (("edge_partition", edge_partition), ("mqtt_monitor", mqtt_monitor))
        for command in program.cli.COMMANDS
    ]
    return [mqtt_monitor.cli.app, *(module.command for module in modules)]


def connecting() -> list[click.Command]:
    found = [import_module(f"{name}.commands.{command}").command for name, command in CONNECTING]
    return [mqtt_monitor.cli.app, *found]


def run(*words: object) -> subprocess.CompletedProcess[str]:
    command, *rest = map(str, words)
    return subprocess.run(
        [BIN / command, *rest], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("option", [*BROKER_OPTIONS, PREFIX_OPTION], ids=lambda item: item.name)
def test_every_program_has_the_same_options_for_the_broker(option: object) -> None:
    for command in connecting():
        (found,) = (item for item in command.params if item.name == option.name)  # type: ignore[attr-defined]
        assert found.opts == [option.flag], command.name  # type: ignore[attr-defined]
        assert found.envvar == option.variable, command.name  # type: ignore[attr-defined]
    shown = " ".join(_parser().format_help().split())
    assert f"{option.flag} {option.metavar} " in shown  # type: ignore[attr-defined]
    assert option.variable is None or option.variable in shown  # type: ignore[attr-defined]


def test_only_commands_that_connect_have_options_for_the_broker() -> None:
    have = {
        item.name for item in commands() if any(param.name == "ca_file" for param in item.params)
    }
    assert have == {item.name for item in connecting()}


def test_help_names_values_and_not_types() -> None:
    for command in commands():
        shown = command.get_help(command.make_context(command.name, [], resilient_parsing=True))
        words = {word.strip("[].=") for word in shown.split()}
        assert not words & TYPE_NAMES, (command.name, words & TYPE_NAMES)


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_has_version_and_debug(program: str) -> None:
    told = run(program, "--version")
    assert (told.returncode, told.stderr) == (0, "")
    name, version = told.stdout.split()
    assert name == program
    assert version[0].isdigit()
    assert "--debug" in run(program, "-h").stdout


@pytest.mark.parametrize(
    ("words", "program", "problem"),
    [
        (["edge-partition", "stauts"], "edge-partition",
         "unknown command stauts; did you mean status? See"),
        (["edge-partition", "status", "--brokr=secret"], "edge-partition status",
         "unknown option --brokr; did you mean --broker? See"),
        (["mqtt-monitor", "replai"], "mqtt-monitor",
         "unknown command replai; did you mean replay? See"),
        (["mqtt-monitor", "--onc"], "mqtt-monitor",
         "unknown option --onc; did you mean --once? See"),
        (["mqtt-monitor", "metrics", "--listen", "hub"], "mqtt-monitor metrics",
         "Invalid value for '--listen': 'hub' is not an address; expected HOST:PORT with a port "  # noqa: ISC004
         "from 0 to 65535; see"),
        (["broker-config", "serfe"], "broker-config",
         "unknown command serfe; did you mean serve? See"),
        (["device-agent", "--brokr", "secret"], "device-agent",
         "unknown option --brokr; did you mean --broker? See"),
    ],
)  # fmt: skip
def test_wrong_usage_is_one_line_with_a_suggestion(
    words: list[str], program: str, problem: str
) -> None:
    ended = run(*words)
    line = f"{program}: {problem} {program} -h.\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", line)


def test_a_program_without_a_command_shows_its_help() -> None:
    ended = run("edge-partition")
    assert ended.returncode == 2
    assert "Commands:" in ended.stderr


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"broker": "mqtts://hub", "key_file": "k"}, "--certificate-file"),
        ({"broker": "mqtts://hub", "password_file": "p"}, "--username"),
        ({"broker": "mqtt://hub", "ca_file": "c"}, "--ca-file needs TLS"),
        ({"broker": "mqtt://hub", "certificate_file": "c"}, "--certificate-file needs TLS"),
        ({"broker": "mqtts://me@hub", "password_file": "p"}, None),
        ({"broker": "mqtts://hub", "ca_file": "c", "certificate_file": "c", "key_file": "k"}, None),
    ],
)
def test_options_without_an_effect_are_refused(
    values: dict[str, str | None], problem: str | None
) -> None:
    every = {option.name: values.get(option.name) for option in BROKER_OPTIONS}
    misuse = find_misuse(every, frozenset(values))
    assert misuse is None if problem is None else problem in str(misuse)
    # A variable may be set for another broker.
    assert find_misuse(every, frozenset()) is None
