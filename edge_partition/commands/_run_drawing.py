"""The option ``--draw`` of ``edge-partition run``, which draws the found boxes into pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_core.errors import EdgePartitionError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edge_core.contract.manifest import Manifest


class DrawError(EdgePartitionError):
    """The option ``--draw`` can't be used."""


def check_drawable(folder: Path, files: Sequence[Path], manifest: Manifest) -> None:
    """Check, before the stream starts, that ``--draw`` can write pictures into ``folder``.

    Raises:
        DrawError: The outputs are not known to be boxes, or an input is in ``folder``, or the
            folder can't be created.
    """
    if not manifest.model.detections:
        raise DrawError(
            f"--draw: the outputs of deployment {manifest.deployment!r} are not known to be boxes; "
            "expected an SSD model, or a YOLO model with metadata. Leave --draw out."
        )
    if folder.resolve() in {file.resolve().parent for file in files}:
        raise DrawError(
            f"--draw {folder}: this folder has the inputs, and the drawn pictures could overwrite "
            "them; name another folder."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DrawError(
            f"--draw {folder}: the folder can't be created ({error.strerror}); name another folder."
        ) from None


def free_name(file: Path, taken: set[str]) -> str:
    """Return a file name for a drawn picture, and add the name to ``taken``.

    The name is that of the input file. If ``taken`` already has this name, a number is added.
    """
    suffix = file.suffix if file.suffix.lower() in {".jpg", ".jpeg", ".png"} else ".png"
    name, number = f"{file.stem}{suffix}", 1
    while name.casefold() in taken:
        number += 1
        name = f"{file.stem}-{number}{suffix}"
    taken.add(name.casefold())
    return name
