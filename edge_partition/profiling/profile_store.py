"""Boards' profiles in files on this machine, so that later plans need no new measurements.

There is one JSON file for each model, board and runtime, under the user's cache directory (XDG Base
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
from typing import TYPE_CHECKING

from edge_core.contract.json_fields import FieldError, parse_json
from edge_core.errors import EdgePartitionError
from edge_core.write_file import WriteError, write_file
from edge_partition.planning.fit_messages import TimedMessage
from edge_partition.planning.stage_times import TimedSlice

if TYPE_CHECKING:
    from edge_core.contract.json_fields import Field

#: Version of the file format. Since version 2, the board times messages, not the host. Since
#: version 3, the board also times messages with pauses between them.
SCHEMA = 3
_MOST_BYTES = 1 << 20


class ProfileError(EdgePartitionError):
    """A profile's file is not valid.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        super().__init__(
            f"The profile {path} cannot be used: {reason.rstrip('.')}. Delete the file, or measure "
            "again with `edge-partition profile`."
        )


@dataclass(frozen=True)
class BoardProfile:
    """Measurements of one model on one board.

    Attributes:
        model_sha256: SHA-256 of the model's ``.tflite``.
        model_name: Name of the model.
        board: Name of the agent.
        runtime: The TFLite runtime and its version.
        threads: Threads of one inference.
        measured_at: Time of the measurement, UTC, ISO 8601.
        slices: Times of slices (ranges of operators) of the model.
        messages: Times of messages through the broker.
        cores: Number of processors that the agent gets while its inference threads and one more
            thread are busy.
        temperature_c: Lowest and highest temperature during the measurement, in degrees Celsius;
            ``None`` if the board has no sensor.
        clock_mhz: Lowest and highest processor clock, in MHz; ``None`` if the board does not report
            one.
        unsettled: Number of slices whose median still varied at the end of the time limit.
        ram_mib: Memory limit of the agent (``--ram-mib``), in MiB; ``None`` without a limit.
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
    ram_mib: float | None = None


class ProfileStore:
    """A folder of profiles, with one file for each model, board and runtime."""

    def __init__(self, folder: Path | None = None) -> None:
        """Keep profiles in ``folder``; ``None`` stands for the user's cache directory."""
        self.folder = folder or _cache_folder()

    def path(self, model_sha256: str, board: str, runtime: str) -> Path:
        """Return the path of a profile's file. The file need not exist."""
        file = re.sub(r"[^A-Za-z0-9._-]+", "-", runtime)
        return self.folder / model_sha256 / board / f"{file}.json"

    def save(self, profile: BoardProfile) -> Path:
        """Write a profile to its file, replace an older profile there, and return the file's path.

        Raises:
            WriteError: The file cannot be written.
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
        """Return the stored profile of a model, board and runtime; ``None``: no such profile.

        Raises:
            ProfileError: The file is not valid.
        """
        path = self.path(model_sha256, board, runtime)
        return self._read(path) if path.exists() else None

    def newest(self, model_sha256: str, board: str) -> BoardProfile | None:
        """Return the latest stored profile of a model and board; ``None``: no such profile.

        Raises:
            ProfileError: A stored profile of the board is not valid.
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
            profile = _read_profile(parse_json(text, "the document"))
        except FieldError as error:
            raise ProfileError(path, str(error)) from None
        if self.path(profile.model_sha256, profile.board, profile.runtime) != path:
            raise ProfileError(
                path,
                f"its measurements are of board {profile.board} and model "
                f"{profile.model_sha256[:12]}, but the path is that of another profile",
            )
        return profile


def _cache_folder() -> Path:
    # The XDG specification says that a relative path must be ignored.
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    cache = named if named.is_absolute() else Path.home() / ".cache"
    return cache / "edge-partition" / "profiles"


def _read_profile(fields: Field) -> BoardProfile:
    schema = fields.get("schema")
    if schema.value != SCHEMA:
        raise schema.wrong(f"{SCHEMA}, which this version reads")
    slices = tuple(
        TimedSlice(
            item["start"].whole(), item["stop"].whole(), item["invoke_ms"].number(above=True)
        )
        for item in fields["slices"].items()
    )
    messages = tuple(
        TimedMessage(
            item["size_bytes"].whole(),
            *(
                item[key].number(above=True)
                for key in ("lone_ms", "window_ms", "cpu_ms", "apart_cpu_ms")
            ),
        )
        for item in fields["messages"].items()
    )
    if not slices or any(item.start >= item.stop for item in slices):
        raise fields["slices"].error(
            "are empty or have an empty range; expected ranges of one operator or more"
        )
    if not messages:
        raise fields["messages"].error("are empty; expected one message or more")
    ram_mib = fields.optional("ram_mib")
    return BoardProfile(
        model_sha256=fields["model_sha256"].sha256(),
        model_name=fields["model_name"].text(),
        board=fields["board"].name(),
        runtime=fields["runtime"].text(),
        threads=fields["threads"].whole(),
        measured_at=fields["measured_at"].text(),
        slices=slices,
        messages=messages,
        cores=fields["cores"].number(above=True),
        temperature_c=_read_range(fields.optional("temperature_c")),
        clock_mhz=_read_range(fields.optional("clock_mhz")),
        unsettled=fields["unsettled"].whole(),
        ram_mib=None if ram_mib is None else ram_mib.number(above=True),
    )


def _read_range(field: Field | None) -> tuple[float, float] | None:
    if field is None:
        return None
    ends = tuple(end.number(-math.inf) for end in field.items())
    if len(ends) != 2:  # noqa: PLR2004
        raise field.wrong("the lowest and the highest value")
    return ends[0], ends[1]
