"""What boards measured, kept on this machine, so that a second plan asks nothing.

One JSON file for each model, board and runtime, under the user's cache directory (XDG Base
Directory Specification 0.8):

```
${XDG_CACHE_HOME:-~/.cache}/edge-partition/profiles/{model's sha256}/{board}/{runtime}.json
```
"""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_core.contract.manifest import NAME_PATTERN
from edge_core.errors import EdgePartitionError
from edge_core.write_file import WriteError, write_file
from edge_partition.planning.link_times import TimedMessage
from edge_partition.planning.stage_times import TimedSlice

if TYPE_CHECKING:
    from collections.abc import Mapping

#: 2: messages that the board timed, instead of echoes that the host did. 3: also some apart.
SCHEMA = 3
_SHA256_PATTERN = re.compile(r"[0-9a-f]{64}")
_MOST_BYTES = 1 << 20


class ProfileError(EdgePartitionError):
    """A kept profile can't be used.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        super().__init__(
            f"The profile {path} can't be used: {reason}. Delete it, or measure anew with "
            "`edge-partition profile`."
        )


@dataclass(frozen=True)
class BoardProfile:
    """What one board measured of one model.

    Attributes:
        model_sha256: Of the whole ``.tflite``.
        model_name: For people.
        board: The agent's name.
        runtime: The TFLite runtime and its version.
        threads: Threads of one inference.
        measured_at: UTC, ISO 8601.
        slices: Times of parts of the model.
        messages: Times of messages through the broker.
        cores: Processors that the agent gets when its threads and one more are busy.
        temperature_c: The lowest and the highest while measuring; None: the board has no sensor.
        clock_mhz: The lowest and the highest processor clock; None: the board doesn't tell.
        unsettled: How many slices' medians had not come to rest when their time was up.
    """

    model_sha256: str
    model_name: str
    board: str
    runtime: str
    threads: int
    measured_at: str
    slices: tuple[TimedSlice, ...]
    messages: tuple[TimedMessage, ...]
    cores: float
    temperature_c: tuple[float, float] | None = None
    clock_mhz: tuple[float, float] | None = None
    unsettled: int = 0


class ProfileStore:
    """Profiles in a folder."""

    def __init__(self, folder: Path | None = None) -> None:
        """Name the folder; None: the user's cache directory."""
        self.folder = folder or _cache_folder()

    def path(self, model_sha256: str, board: str, runtime: str) -> Path:
        """Return where a profile is, or will be."""
        file = re.sub(r"[^A-Za-z0-9._-]+", "-", runtime)
        return self.folder / model_sha256 / board / f"{file}.json"

    def save(self, profile: BoardProfile) -> Path:
        """Write a profile in place of an older one of the same model, board and runtime.

        Raises:
            WriteError: The disk or its permissions say no.
        """
        path = self.path(profile.model_sha256, profile.board, profile.runtime)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WriteError(path, error.strerror or str(error)) from None
        document = {"schema": SCHEMA, **asdict(profile)}
        write_file(path, json.dumps(document, indent=1).encode())
        return path

    def find(self, model_sha256: str, board: str, runtime: str) -> BoardProfile | None:
        """Return the profile of a model, board and runtime, if there is one.

        Raises:
            ProfileError: There is a file, and it can't be used.
        """
        path = self.path(model_sha256, board, runtime)
        return self._read(path) if path.exists() else None

    def newest(self, model_sha256: str, board: str) -> BoardProfile | None:
        """Return the profile of a model and board that was measured last, if there is one.

        Raises:
            ProfileError: There is a file, and it can't be used.
        """
        found = [
            self._read(path)
            for path in sorted((self.folder / model_sha256 / board).glob("*.json"))
            if not path.name.startswith(".")
        ]
        return max(found, key=lambda profile: profile.measured_at, default=None)

    def _read(self, path: Path) -> BoardProfile:
        try:
            with path.open("rb") as stream:
                text = stream.read(_MOST_BYTES + 1)
        except OSError as error:
            raise ProfileError(path, error.strerror or str(error)) from None
        if len(text) > _MOST_BYTES:
            raise ProfileError(path, f"it has more than {_MOST_BYTES:,} bytes")
        try:
            profile = _from_json(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise ProfileError(path, str(error)) from None
        if self.path(profile.model_sha256, profile.board, profile.runtime) != path:
            raise ProfileError(
                path, f"it is of board {profile.board} and model {profile.model_sha256[:12]}"
            )
        return profile


def _cache_folder() -> Path:
    # The specification has relative paths ignored.
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    cache = named if named.is_absolute() else Path.home() / ".cache"
    return cache / "edge-partition" / "profiles"


def _from_json(document: Any) -> BoardProfile:
    """Read a profile.

    Raises:
        ValueError: It is not one; the text says why.
    """
    fields = _object(document, "profile")
    if fields.get("schema") != SCHEMA:
        raise ValueError(f"it has schema {fields.get('schema')!r}; this version reads {SCHEMA}")
    slices = tuple(
        TimedSlice(
            _whole(item, "start"), _whole(item, "stop"), _number(item, "invoke_ms", above=True)
        )
        for item in _objects(fields, "slices")
    )
    messages = tuple(
        TimedMessage(
            _whole(item, "size_bytes"),
            _number(item, "lone_ms", above=True),
            _number(item, "window_ms", above=True),
            _number(item, "cpu_ms", above=True),
            _number(item, "apart_cpu_ms", above=True),
        )
        for item in _objects(fields, "messages")
    )
    if not slices or any(item.start >= item.stop for item in slices):
        raise ValueError("its slices are not ranges of operators")
    if not messages:
        raise ValueError("it has no messages")
    profile = BoardProfile(
        model_sha256=_text(fields, "model_sha256"),
        model_name=_text(fields, "model_name"),
        board=_text(fields, "board"),
        runtime=_text(fields, "runtime"),
        threads=_whole(fields, "threads"),
        measured_at=_text(fields, "measured_at"),
        slices=slices,
        messages=messages,
        cores=_number(fields, "cores", above=True),
        temperature_c=_range(fields, "temperature_c"),
        clock_mhz=_range(fields, "clock_mhz"),
        unsettled=_whole(fields, "unsettled"),
    )
    if not _SHA256_PATTERN.fullmatch(profile.model_sha256):
        raise ValueError(f"model_sha256 is {profile.model_sha256[:80]!r}")
    if not NAME_PATTERN.fullmatch(profile.board):
        raise ValueError(f"board is {profile.board[:80]!r}")
    return profile


def _object(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is a JSON {type(value).__name__}; expected an object")  # noqa: TRY004
    return value


def _objects(fields: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    value = fields.get(key)
    if not isinstance(value, list):
        raise ValueError(f"{key} is no list")  # noqa: TRY004
    return [_object(item, key) for item in value]


def _text(fields: Mapping[str, Any], key: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str):
        raise ValueError(f"{key} is no text")  # noqa: TRY004
    return value


def _whole(fields: Mapping[str, Any], key: str) -> int:
    value = fields.get(key)
    if type(value) is not int or value < 0:
        raise ValueError(f"{key} is {str(value)[:40]}; expected a whole number")
    return value


def _number(fields: Mapping[str, Any], key: str, *, above: bool = False) -> float:
    value = fields.get(key)
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
        or value < 0
        or (above and value == 0)
    ):
        raise ValueError(
            f"{key} is {str(value)[:40]}; expected a number {'over' if above else 'from'} 0"
        )
    return float(value)


def _range(fields: Mapping[str, Any], key: str) -> tuple[float, float] | None:
    value = fields.get(key)
    if value is None:
        return None
    if (
        not isinstance(value, list)
        or len(value) != 2  # noqa: PLR2004
        or not all(isinstance(end, int | float) and math.isfinite(end) for end in value)
    ):
        raise ValueError(f"{key} is {str(value)[:40]}; expected the lowest and the highest")
    return float(value[0]), float(value[1])
