"""The files and reference tensors that boards ask for by checksum."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from tflite_models import chain_of_adds

from edge_partition.boards.deployment_files import DeploymentFiles
from edge_partition.bundles.run_bundle import reference_payloads
from edge_partition.bundles.write_bundle import write_bundle
from edge_partition.planning.fleet import equal_fleet
from edge_partition.planning.plan_split import plan_split
from edge_partition.tflite.read_tflite import read_tflite

if TYPE_CHECKING:
    from pathlib import Path

    from edge_partition.bundles.bundle import Bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    model = read_tflite(chain_of_adds())
    return write_bundle(
        tmp_path / "build",
        model,
        plan_split(model.graph, equal_fleet(2), stages=2),
        name="Model",
        deployment="model",
        quantization="none",
        weights="seeded",
    )


def test_every_checksum_that_a_board_learns_gives_its_bytes(bundle: Bundle) -> None:
    files = DeploymentFiles(bundle)
    for stage in bundle.manifest.stages:
        (reference,) = files.references(stage.devices[0])
        assert reference["stage"] == stage.index
        for sha256 in (stage.sha256, reference["input"]["sha256"], reference["output"]["sha256"]):
            data = files.data(sha256)
            assert hashlib.sha256(data).hexdigest() == sha256
            assert files.size_bytes(sha256) == len(data)
        assert reference["input"]["size_bytes"] == len(files.data(reference["input"]["sha256"]))


def test_a_stages_reference_output_is_the_next_stages_input(bundle: Bundle) -> None:
    files = DeploymentFiles(bundle)
    first, second = (files.references(stage.devices[0])[0] for stage in bundle.manifest.stages)
    assert first["output"] == second["input"]
    payloads = reference_payloads(bundle)
    assert files.data(second["output"]["sha256"]) == payloads[-1]


def test_a_checksum_that_the_bundle_does_not_have_is_an_error(bundle: Bundle) -> None:
    files = DeploymentFiles(bundle)
    for ask in (files.data, files.size_bytes):
        with pytest.raises(KeyError):
            ask("0" * 64)


def test_the_document_is_the_manifest(bundle: Bundle) -> None:
    document = DeploymentFiles(bundle).document
    assert document["generation"] == bundle.manifest.generation
    assert [stage["sha256"] for stage in document["stages"]] == [
        stage.sha256 for stage in bundle.manifest.stages
    ]
