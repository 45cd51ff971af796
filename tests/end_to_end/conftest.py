from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from desk import BOARDS, EXAMPLES, PATIENCE_S, Desk, make_bundle

from broker_config.serve.embedded import EmbeddedBroker
from broker_config.serve.mosquitto import MosquittoBroker, find_mosquitto
from edge_core.contract.tensors import encode_tensors
from edge_core.contract.topics import Topics
from edge_core.mqtt.broker_address import BrokerAddress
from edge_core.mqtt.connection import Connection
from edge_partition.bundles.run_bundle import whole_interpreter
from edge_partition.inputs.load_inputs import load_input
from edge_partition.model.load_model import load_model
from edge_partition.tflite.slice_model import slice_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np

    from edge_partition.bundles.bundle import Bundle
    from edge_partition.model.load_model import LoadedTflite


@pytest.fixture(scope="session", autouse=True)
def _converter() -> Iterator[None]:
    """Keep one child process for all conversions; the first conversion starts it."""
    from edge_partition.model.converter_process import kept_converter  # noqa: PLC0415 -- numpy

    with kept_converter():
        yield


@pytest.fixture(params=["mosquitto"])
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    """A broker of the requested kind (mosquitto by default), without agents."""
    if request.param == "mosquitto" and find_mosquitto() is None:
        if os.environ.get("CI"):
            pytest.fail("mosquitto must be installed in CI")
        pytest.skip("mosquitto is not installed")
    broker_class = MosquittoBroker if request.param == "mosquitto" else EmbeddedBroker
    with broker_class(port=0) as broker:
        desk = Desk(broker, tmp_path)
        topics = Topics()
        watcher = Connection(BrokerAddress.parse(desk.url, environ={}), "test-watcher")
        with watcher:
            watcher.subscribe(
                topics.availability("+"),
                lambda message: desk.availability.update(
                    {topics.name_in(message.topic): bytes(message.payload)}
                ),
                timeout_s=PATIENCE_S,
            )
            yield desk
            desk.close()


@pytest.fixture
def three_boards(desk: Desk) -> Desk:
    desk.start_agents(*BOARDS)
    return desk


@pytest.fixture(scope="session")
def digits_model() -> LoadedTflite:
    return load_model(str(EXAMPLES / "digits" / "digits.keras"))


@pytest.fixture
def model(digits_model: LoadedTflite, tmp_path: Path) -> Path:
    """The digits model's first operators: few slices, so the test is fast."""
    graph = digits_model.tflite.graph
    path = tmp_path / "first.tflite"
    path.write_bytes(slice_model(digits_model.tflite, 0, graph.cuts[6]))
    return path


@pytest.fixture(scope="session")
def digits_bundle(digits_model: LoadedTflite, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The digits model over board-0, board-1 and board-2."""
    return make_bundle(digits_model, tmp_path_factory.mktemp("digits") / "build", stages=3)


@pytest.fixture(scope="session")
def images(digits_bundle: Bundle) -> list[dict[str, np.ndarray]]:
    files = sorted((EXAMPLES / "digits" / "images").iterdir())[::9]
    return [load_input(file, digits_bundle.manifest.inputs) for file in files]


@pytest.fixture(scope="session")
def whole_outputs(digits_bundle: Bundle, images: list[dict[str, np.ndarray]]) -> list[bytes]:
    """The whole model's outputs for ``images``, run in one piece; they differ from each other."""
    whole = whole_interpreter(digits_bundle)
    outputs = [
        whole.invoke(encode_tensors(digits_bundle.manifest.inputs, image)) for image in images
    ]
    assert len(set(outputs)) == len(outputs)
    return outputs
