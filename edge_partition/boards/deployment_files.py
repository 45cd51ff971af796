"""The files and the reference tensors of a bundle, by SHA-256.

Reference tensors are the inputs and the outputs of each stage, computed on this machine. A board
runs its stages on the reference inputs, and compares the results with the reference outputs.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from edge_core.contract.messages import decode_json
from edge_partition.bundles.run_bundle import reference_payloads

if TYPE_CHECKING:
    from edge_partition.bundles.bundle import Bundle


class DeploymentFiles:
    """The data that boards request when they prepare the stages of a bundle.

    The data are the files of the stages, and the reference tensors: the inputs and outputs of each
    stage, computed on this machine. A stage's file is read when a board requests the file.
    Reference tensors are kept in memory.

    Attributes:
        bundle: The bundle.
        document: The manifest as JSON values.
    """

    def __init__(self, bundle: Bundle) -> None:
        """Run the bundle's stages once on this machine, to compute the reference tensors."""
        self.bundle = bundle
        self.document = decode_json(bundle.manifest.to_json().encode())
        self._payloads = reference_payloads(bundle)
        self._payload_ids = [hashlib.sha256(payload).hexdigest() for payload in self._payloads]
        self._by_id = dict(zip(self._payload_ids, self._payloads, strict=True))
        self._stages = {stage.sha256: stage for stage in bundle.manifest.stages}

    def references(self, device: str) -> list[dict[str, Any]]:
        """Return the field ``references`` of the command ``prepare`` for a board.

        The field names, for each of the board's stages, the files with an input and the output that
        the whole model computes for it. The board compares its own output with this one.
        """
        return [
            {
                "stage": stage.index,
                "input": self._reference(stage.index),
                "output": self._reference(stage.index + 1),
            }
            for stage in self.bundle.manifest.stages_of(device)
        ]

    def size_bytes(self, sha256: str) -> int:
        """Return the size of the file or reference tensor with the checksum ``sha256``.

        Raises:
            KeyError: The bundle has no file or reference tensor with this checksum.
        """
        if sha256 in self._by_id:
            return len(self._by_id[sha256])
        return self._stages[sha256].size_bytes

    def data(self, sha256: str) -> bytes:
        """Return the bytes of the file or reference tensor with the checksum ``sha256``.

        Raises:
            KeyError: The bundle has no file or reference tensor with this checksum.
        """
        if sha256 in self._by_id:
            return self._by_id[sha256]
        return self.bundle.stage_file(self._stages[sha256]).read_bytes()

    def _reference(self, boundary: int) -> dict[str, Any]:
        return {
            "sha256": self._payload_ids[boundary],
            "size_bytes": len(self._payloads[boundary]),
        }
