"""``--wire float16`` through real boards: half the bytes, answers close to the whole model's."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from desk import BOARDS, PATIENCE_S, make_bundle, wait_until

from edge_core.contract.tensors import decode_tensors, encode_tensors, payload_bytes
from edge_core.contract.topics import Topics
from edge_core.mqtt.broker_address import BrokerAddress
from edge_core.mqtt.connection import Connection
from edge_partition.boards.deploy_bundle import Deployer
from edge_partition.bundles.run_bundle import chain_stages
from edge_partition.client.pipeline import Pipeline

if TYPE_CHECKING:
    from desk import Desk

    from edge_partition.model.load_model import LoadedTflite


def test_float16_between_boards_is_half_the_bytes_and_close_to_the_whole_model(
    three_boards: Desk,
    digits_model: LoadedTflite,
    images: list[dict[str, np.ndarray]],
    whole_outputs: list[bytes],
) -> None:
    narrow = make_bundle(
        digits_model,
        three_boards.folder / "narrow",
        stages=3,
        deployment="narrow",
        wire="float16",
    )

    sent: dict[int, list[int]] = {1: [], 2: []}
    topics = Topics()
    address = BrokerAddress.parse(three_boards.url, environ={})
    with Connection(address, "test-listener") as listener:
        for index, sizes in sent.items():
            listener.subscribe(
                topics.board_stage("narrow", index, f"board-{index}"),
                lambda message, sizes=sizes: sizes.append(len(message.payload)),
                timeout_s=PATIENCE_S,
            )
        with Deployer(three_boards.url) as deployer:
            loaded = deployer.deploy(narrow)
        with Pipeline("narrow", three_boards.url) as pipeline:
            results = list(pipeline.map(images))
        wait_until(
            lambda: all(len(sizes) >= len(images) for sizes in sent.values()), "every message"
        )
    assert [(stage.device, stage.max_difference) for stage in loaded] == [
        (name, 0) for name in BOARDS
    ]

    # On the wire: half the bytes of these tensors in the model.
    for index, sizes in sent.items():
        specs = narrow.manifest.stages[index].inputs
        in_model = payload_bytes([replace(spec, dtype="float32") for spec in specs])
        assert set(sizes) == {in_model // 2}

    # The boards equal this machine bit for bit, and the whole model nearly.
    outputs = narrow.manifest.outputs
    (scores,) = outputs
    answers = [
        encode_tensors(outputs, {scores.name: result} if isinstance(result, np.ndarray) else result)
        for result in results
    ]
    payloads = [encode_tensors(narrow.manifest.inputs, image) for image in images]
    assert answers == chain_stages(narrow, payloads)
    assert answers != whole_outputs
    found, expected = (
        np.concatenate([decode_tensors(outputs, payload)[scores.name] for payload in payloads])
        for payloads in (answers, whole_outputs)
    )
    assert np.array_equal(found.argmax(-1), expected.argmax(-1))
    assert np.abs(found - expected).max() < 1e-3
    assert len(set(expected.argmax(-1))) > 5
