"""The stages that a ``prepare`` command assigns to this board, with their reference tensors."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from device_agent.artifact_store import Artifact
from edge_core.contract.json_fields import Field, FieldError
from edge_core.contract.manifest import NEEDS_ROUTE, NEEDS_STATE, Manifest
from edge_core.contract.messages import CommandError, ErrorCode
from edge_core.contract.tensors import payload_bytes
from edge_core.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_core.contract.manifest import Stage

#: Entries of a manifest's ``needs`` that this agent supports.
KNOWN_NEEDS = frozenset({NEEDS_ROUTE, NEEDS_STATE})
_MAX_NEEDS_CHARACTERS = 80


@dataclass(frozen=True)
class Reference:
    """A stage's reference input, and the output that the host computed for this input.

    Attributes:
        stage: Index of the stage.
        input: File with the payload of the reference input.
        output: File with the payload of the host's output.
    """

    stage: int
    input: Artifact
    output: Artifact

    def to_json(self) -> dict[str, Any]:
        """Return this reference as an entry of ``references`` in a ``prepare`` command."""
        return {
            "stage": self.stage,
            "input": {"sha256": self.input.sha256, "size_bytes": self.input.size_bytes},
            "output": {"sha256": self.output.sha256, "size_bytes": self.output.size_bytes},
        }


@dataclass(frozen=True)
class Assignment:
    """The stages that this board runs in one generation of a deployment.

    Attributes:
        manifest: Manifest of the generation.
        stages: This board's stages, in the order of the manifest.
        references: Reference of each stage, in the order of ``stages``.
    """

    manifest: Manifest
    stages: tuple[Stage, ...]
    references: tuple[Reference, ...]

    def artifacts(self) -> dict[str, Artifact]:
        """Return the files of the stages and of the references, by SHA-256."""
        files = [Artifact(stage.sha256, stage.size_bytes) for stage in self.stages]
        files += [file for item in self.references for file in (item.input, item.output)]
        return {file.sha256: file for file in files}

    def to_json(self) -> dict[str, Any]:
        """Return the JSON fields from which :func:`read_assignment` reads the assignment."""
        return {
            "manifest": json.loads(self.manifest.to_json()),
            "references": [reference.to_json() for reference in self.references],
        }


def read_assignment(device: str, document: Any) -> Assignment:
    """Read the fields ``manifest`` and ``references`` of a ``prepare`` command.

    Args:
        device: This board's name in manifests.
        document: The command, or the result of :meth:`Assignment.to_json`.

    Raises:
        CommandError: With ``bad-command``: a field is missing or wrong, or the manifest has no
            stage for this board; with ``unknown-need``: the manifest needs something that this
            agent does not support.
    """
    manifest = read_manifest(document)
    check_needs(manifest)
    stages = manifest.stages_of(device)
    if not stages:
        raise CommandError(
            ErrorCode.BAD_COMMAND,
            f"The manifest has no stage for board {device}. Send `prepare` only to the boards of "
            f"the manifest: "
            f"{', '.join(sorted({name for s in manifest.stages for name in s.devices}))}.",
        )
    with reading_fields():
        items = Field(document, root="command").get("references", [])
        references = {item.stage: item for item in map(_read_reference, items.items())}
    for stage in stages:
        if stage.index not in references:
            raise CommandError(
                ErrorCode.BAD_COMMAND,
                f"The command has no reference input and output for stage {stage.index}. Add an "
                "entry to the field `references`.",
            )
        _check_reference_sizes(manifest, stage, references[stage.index])
    return Assignment(manifest, stages, tuple(references[stage.index] for stage in stages))


@contextmanager
def reading_fields() -> Iterator[None]:
    """Refuse the command if a field that the ``with`` block reads is missing or wrong.

    Raises:
        CommandError: With ``bad-command``: a field is missing or wrong.
    """
    try:
        yield
    except FieldError as error:
        raise CommandError(ErrorCode.BAD_COMMAND, f"The command is wrong: {error}") from None


def read_manifest(command: Any) -> Manifest:
    """Read the field ``manifest`` of a command.

    Raises:
        CommandError: With ``bad-command``: the field is not a manifest.
    """
    with reading_fields():
        document = Field(command, root="command").get("manifest").value
    try:
        return Manifest.from_json(json.dumps(document))
    except ManifestError as error:
        raise CommandError(ErrorCode.BAD_COMMAND, str(error)) from None


def read_name(command: Any, key: str) -> str:
    """Read a field that holds the name of a deployment or of a generation.

    Raises:
        CommandError: With ``bad-command``: the field is not a valid name. Names are checked
            because they become file names.
    """
    with reading_fields():
        return Field(command, root="command")[key].name()


def check_needs(manifest: Manifest) -> None:
    """Check that this agent supports everything that the manifest lists under ``needs``.

    Raises:
        CommandError: With ``unknown-need``: the agent does not support an entry.
    """
    unknown = [need for need in manifest.needs if need not in KNOWN_NEEDS]
    if unknown:
        raise CommandError(
            ErrorCode.UNKNOWN_NEED,
            f"{manifest.deployment} needs {', '.join(unknown)[:_MAX_NEEDS_CHARACTERS]} from its "
            f"agents, but this agent supports only {', '.join(sorted(KNOWN_NEEDS))}. On this "
            "board, install the version of edge-partition that split the model.",
        )


def _check_reference_sizes(manifest: Manifest, stage: Stage, reference: Reference) -> None:
    for artifact, specs, what in (
        (reference.input, stage.inputs, "input"),
        (reference.output, manifest.sent_by(stage.index), "output"),
    ):
        if artifact.size_bytes != payload_bytes(specs):
            raise CommandError(
                ErrorCode.BAD_COMMAND,
                f"The reference {what} of stage {stage.index} has {artifact.size_bytes:,} bytes; "
                f"expected {payload_bytes(specs):,}, the size of the tensors in the manifest.",
            )


def _read_reference(fields: Field) -> Reference:
    return Reference(
        fields["stage"].whole(), _read_artifact(fields["input"]), _read_artifact(fields["output"])
    )


def _read_artifact(fields: Field) -> Artifact:
    return Artifact(fields["sha256"].sha256(), fields["size_bytes"].whole())
