"""The agent's options: command line, TOML file, environment, in that order of precedence."""

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

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DEFAULT_KEEPALIVE_S = 10
DEFAULT_CONNECT_TIMEOUT_S = 5.0
#: More threads than a small board's fast cores slow a small model down.
MAX_DEFAULT_THREADS = 4


class ConfigError(EdgePartitionError):
    """An option is missing, unknown or out of range; the text names it."""


@dataclass(frozen=True)
class Config:
    """What one agent was told. Field names are the keys of the TOML file.

    Attributes:
        broker: ``mqtt[s]://HOST:PORT``.
        name: The board's name: a topic level and part of the MQTT client id.
        state_dir: Where deployments outlive a restart; for one agent alone.
        prefix: Leading topic levels.
        threads: Threads a model is run with.
        ram_mib: What the agent may use, itself included; None: what the board has free.
        username: Sent to the broker.
        password_file: Holds the password; there is no option for the password itself, since
            command lines show in process lists.
        ca_file: Certificates to trust instead of the system's.
        certificate_file: The agent's own certificate.
        key_file: The key of ``certificate_file``.
        keepalive: Seconds; after 1.5 times this without a word the broker publishes the will.
        connect_timeout: Seconds to wait for the broker at start.
        debug: Show tracebacks.
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


def make_config(
    options: Mapping[str, Any], file: Path | None, environ: Mapping[str, str] = os.environ
) -> Config:
    """Join the command line's ``options`` (None: not given) with the file and the environment.

    Raises:
        ConfigError: Something is missing, unknown, of the wrong type or out of range.
    """
    values = _read_file(file) if file is not None else {}
    values.update({key: value for key, value in options.items() if value is not None})
    values.setdefault("broker", environ.get("EDGE_PARTITION_BROKER"))
    for key, how in (
        ("broker", "Name one with --broker mqtt://HOST:PORT or EDGE_PARTITION_BROKER."),
        ("name", "Name the board with --name."),
        ("state_dir", "Name a folder of its own with --state-dir."),
    ):
        if not values.get(key):
            raise ConfigError(f"The agent has no {key}. {how}")
    values.setdefault("threads", min(MAX_DEFAULT_THREADS, len(os.sched_getaffinity(0))))
    values["state_dir"] = Path(values["state_dir"])
    if not NAME_PATTERN.fullmatch(values["name"]):
        raise ConfigError(
            f"The name {values['name']!r} is not one; expected letters, digits, '.', '_' and '-', "
            "128 at most, the first a letter or digit."
        )
    for key in ("threads", "ram_mib", "keepalive", "connect_timeout"):
        if values.get(key) is not None and values[key] <= 0:
            raise ConfigError(f"The option {key} is {values[key]}; expected more than 0.")
    return Config(**values)


#: Option -> the check of its value in the file. Every other option is a string.
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
        raise ConfigError(f"The configuration {file} can't be read: {error}.") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"The configuration {file} is not TOML: {error}.") from None
    try:
        document.refuse_unknown([field.name for field in fields(Config)])
        return {key: _CHECKS.get(key, Field.text)(document[key]) for key in document.object()}
    except FieldError as error:
        raise ConfigError(f"The configuration {file} is wrong: {error}") from None
