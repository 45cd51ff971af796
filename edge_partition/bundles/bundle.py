"""A bundle: the folder that ``edge-partition split`` writes and ``edge-partition deploy`` reads."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_core.contract.manifest import (
    Manifest,
    Stage,
)
from edge_core.contract.tensors import payload_bytes
from edge_core.errors import EdgePartitionError

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST_FILE = "manifest.json"
WHOLE_FILE = "whole.tflite"
PLAN_PICTURE = "plan.svg"
#: File with the payload of one request: the input that the user gave with ``split --sample``.
SAMPLE_FILE = "sample.bin"

#: Matches the positions between the words of a Keras application's name: MobileNet|V3|Large,
#: EfficientNet|V2|B0.
_WORD_BREAK = re.compile(
    r"(?<=[a-z])(?=V\d)|(?<=\d)(?=[A-Z])|(?<=[a-zA-Z0-9])(?=(?:Tiny|Small|Base|Large|XLarge|Mobile)$)"
)

#: Largest number of characters in a default name. Longer names are hard to read in topics.
_NAME_LENGTH = 64


class BundleError(EdgePartitionError):
    """A folder is not a bundle, or a bundle is damaged or can't be written.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        super().__init__(f"{path}: {reason}")


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose files match its manifest.

    Attributes:
        path: The folder.
        manifest: Content of ``manifest.json``.
    """

    path: Path
    manifest: Manifest

    @property
    def whole_file(self) -> Path:
        """Path of the TFLite file with the whole model."""
        return self.path / WHOLE_FILE

    def sample(self) -> bytes | None:
        """Return the input that the user gave with ``split --sample``, as the payload of a request.

        Returns:
            The payload, or None if the user gave no input.

        Raises:
            BundleError: The sample's file can't be read, or its size differs from the size of the
                model's inputs.
        """
        file = self.path / SAMPLE_FILE
        if not file.exists():
            return None
        try:
            sample = file.read_bytes()
        except OSError as error:
            raise BundleError(
                self.path,
                f"{SAMPLE_FILE} can't be read ({error.strerror}). Split the model again with "
                "--sample FILE.",
            ) from None
        expected = payload_bytes(self.manifest.inputs)
        if len(sample) != expected:
            raise BundleError(
                self.path,
                f"{SAMPLE_FILE} has {len(sample):,} bytes; the model's inputs have {expected:,}. "
                "Split the model again with --sample FILE.",
            )
        return sample

    def stage_file(self, stage: Stage) -> Path:
        """Return the path of a stage's TFLite file."""
        return self.path / stage.file


def deployment_name(model_name: str) -> str:
    """Return the default deployment name: ``MobileNetV3Large`` -> ``mobilenet-v3-large``.

    Accents are removed. If the model's name has no Latin letter and no digit, the deployment's name
    is ``model-`` and part of a checksum, such as ``model-1f0c3a``.
    """
    words = unicodedata.normalize("NFKD", _WORD_BREAK.sub("-", model_name))
    plain = "".join(letter for letter in words if not unicodedata.combining(letter))
    name = re.sub(r"[^a-z0-9._-]+", "-", plain.lower()).strip("-._")
    short = name[:_NAME_LENGTH].rstrip("-._")
    return short or f"model-{hashlib.sha256(model_name.encode()).hexdigest()[:6]}"


def read_bundle(path: Path) -> Bundle:
    """Read a bundle and check every file against its manifest.

    Raises:
        BundleError: The folder is not a bundle, a file can't be read, or a file's checksum differs
            from the checksum in the manifest.
        ManifestError: ``manifest.json`` is not a valid manifest.
    """
    try:
        text = (path / MANIFEST_FILE).read_bytes()
    except OSError:
        raise BundleError(
            path,
            f"is not a bundle: it has no {MANIFEST_FILE}. Write a bundle with "
            f"`edge-partition split MODEL -o {path}`.",
        ) from None
    bundle = Bundle(path, Manifest.from_json(text))
    recorded = [(bundle.whole_file, bundle.manifest.model.sha256)]
    recorded += [(bundle.stage_file(stage), stage.sha256) for stage in bundle.manifest.stages]
    for file, sha256 in recorded:
        try:
            with file.open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise BundleError(
                path, f"{file.name} can't be read ({error.strerror}). Split the model again."
            ) from None
        if found != sha256:
            raise BundleError(
                path,
                f"{file.relative_to(path)} is damaged: its SHA-256 starts with {found[:12]}; the "
                f"manifest expects {sha256[:12]}. Split the model again.",
            )
    return bundle
