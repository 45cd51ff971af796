"""Read the agent's options from the command line, a TOML file and the environment.

The command line has precedence over the file, and the file over the environment.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_core.contract.json_fields import Field, FieldError
from edge_core.contract.names import NAME_PATTERN
from edge_core.contract.topics import DEFAULT_PREFIX
from edge_core.errors import EdgePartitionError
from edge_core.program.broker_options import find_misuse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DEFAULT_KEEPALIVE_S = 10
DEFAULT_CONNECT_TIMEOUT_S = 5.0
#: Largest default of ``threads``: more threads make a small model slower on a small board.
MAX_DEFAULT_THREADS = 4


class ConfigError(EdgePartitionError):
    """An option of the agent is missing, unknown or wrong. The message names the option."""


@dataclass(frozen=True)
class Config:
    """The options of one agent. The field names are the keys of the TOML file.

    Attributes:
        broker: URL of the broker, ``mqtt[s]://HOST:PORT``.
        name: The board's name, a part of its topics and of its MQTT client id.
        state_dir: Folder that keeps deployments across restarts. Each agent needs its own folder.
        prefix: First levels of every topic.
        threads: Number of threads of an interpreter, at least 1.
        ram_mib: Largest memory that the agent may use, loaded models included, in MiB. None: the
            board's free memory is the limit.
        username: Account at the broker.
        password_file: File that holds the account's password. No option holds the password itself,
            because process lists show command lines.
        ca_file: PEM file of the certificates to trust instead of the system's.
        certificate_file: PEM file of the agent's own certificate.
        key_file: PEM file of the key of ``certificate_file``.
        keepalive: MQTT keep-alive, in seconds: after 1.5 times this time without a message, the
            broker publishes the will.
        connect_timeout: Longest wait for the broker at start, in seconds.
        debug: Whether the agent prints the traceback of an error.
    """

    broker: str
    name: str
    state_dir: Path
    prefix: str = DEFAULT_PREFIX
    threads: int = 1
    ram_mib: int | None = None
    username: str | None = None
    password_file: str | None = None
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    keepalive: int = DEFAULT_KEEPALIVE_S
    connect_timeout: float = DEFAULT_CONNECT_TIMEOUT_S
    debug: bool = False


_SECURITY_OPTIONS = ("password_file", "ca_file", "certificate_file", "key_file")


def make_config(
    options: Mapping[str, Any], file: Path | None, environ: Mapping[str, str] = os.environ
) -> Config:
    """Return the agent's options.

    Args:
        options: Options of the command line, by name; the value None: the option was not given.
        file: TOML file with options; None: there is no file.
        environ: Environment variables.

    Raises:
        ConfigError: An option is missing, unknown, of the wrong type or out of range, or the file
            cannot be read.
    """
    values = _read_file(file) if file is not None else {}
    values.update({key: value for key, value in options.items() if value is not None})
    values.setdefault("broker", environ.get("EDGE_PARTITION_BROKER"))
    for key, how in (
        ("broker", "Set it with --broker mqtt://HOST:PORT or EDGE_PARTITION_BROKER."),
        ("name", "Set it with --name, to a name for this board."),
        ("state_dir", "Set it with --state-dir, to a folder that no other agent uses."),
    ):
        if not values.get(key):
            raise ConfigError(f"The agent has no {key}. {how}")
    own = {key: values.get(key) for key in ("broker", "username", *_SECURITY_OPTIONS)}
    given = frozenset(key for key in _SECURITY_OPTIONS if own[key])
    if misuse := find_misuse(own, given):
        raise ConfigError(f"{misuse}.")
    values.setdefault("threads", min(MAX_DEFAULT_THREADS, len(os.sched_getaffinity(0))))
    values["state_dir"] = Path(values["state_dir"])
    if not NAME_PATTERN.fullmatch(values["name"]):
        raise ConfigError(
            f"The name {values['name']!r} is not valid; expected at most 128 letters, digits, '.', "
            "'_' and '-', beginning with a letter or a digit."
        )
    for key in ("threads", "ram_mib", "keepalive", "connect_timeout"):
        if values.get(key) is not None and values[key] <= 0:
            raise ConfigError(f"The option {key} is {values[key]}; expected a number above 0.")
    return Config(**values)


#: Checks of the values in the file, by option. Every other option is a string.
_CHECKS: dict[str, Callable[[Field], Any]] = {
    "threads": lambda field: field.whole(1),
    "ram_mib": lambda field: field.whole(1),
    "keepalive": lambda field: field.whole(1),
    "connect_timeout": lambda field: field.number(above=True),
    "debug": Field.truth,
}


def _read_file(file: Path) -> dict[str, Any]:
    try:
        document = Field(tomllib.loads(file.read_text()), root="the file")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The configuration file {file} cannot be read: {error}.") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"The configuration file {file} is not TOML: {error}.") from None
    try:
        document.refuse_unknown([field.name for field in fields(Config)])
        return {key: _CHECKS.get(key, Field.text)(document[key]) for key in document.object()}
    except FieldError as error:
        raise ConfigError(f"The configuration file {file} is wrong: {error}") from None
