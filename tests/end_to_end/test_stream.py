"""Streams through real boards: exact and in order, also through failures."""

from __future__ import annotations

import subprocess
import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from desk import BOARDS, make_bundle, wait_until

from edge_core.contract.tensors import encode_tensors
from edge_core.errors import BrokerUnreachableError, PayloadError
from edge_partition.boards.deploy_bundle import Deployer
from edge_partition.bundles.run_bundle import whole_interpreter
from edge_partition.client.errors import RequestError, UnknownDeploymentError
from edge_partition.client.pipeline import Pipeline
from edge_partition.model.load_model import load_model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from desk import Desk

    from edge_partition.bundles.bundle import Bundle

Images = list[dict[str, np.ndarray]]


def deploy(desk: Desk, bundle: Bundle) -> None:
    with Deployer(desk.url) as deployer:
        deployer.deploy(bundle)


def answers(pipeline: Pipeline, images: Iterator[dict[str, np.ndarray]] | Images) -> list[bytes]:
    outputs = pipeline.manifest.outputs
    return [encode_tensors(outputs, result.outputs) for result in pipeline.stream(images)]


@pytest.mark.parametrize("desk", ["mosquitto", "embedded"], indirect=True)
def test_every_answer_is_the_whole_models_bit_for_bit_and_in_order(
    three_boards: Desk, digits_bundle: Bundle, images: Images, whole_outputs: list[bytes]
) -> None:
    deploy(three_boards, digits_bundle)
    with Pipeline("digits", three_boards.url) as pipeline:
        assert answers(pipeline, images) == whole_outputs


def test_infer_gives_one_array_and_the_trace_names_every_board(
    three_boards: Desk, digits_bundle: Bundle, images: Images, whole_outputs: list[bytes]
) -> None:
    deploy(three_boards, digits_bundle)
    (image,) = images[0].values()
    with Pipeline("digits", three_boards.url) as pipeline:
        scores = pipeline.infer(image)
        assert isinstance(scores, np.ndarray)
        assert scores.tobytes() == whole_outputs[0]
        (result,) = pipeline.stream([image])
    assert [stage.device for stage in result.trace] == list(BOARDS)
    spent_ms = sum(stage.queue_ms + stage.invoke_ms for stage in result.trace)
    assert 0 < spent_ms < result.latency_ms


def test_inputs_are_taken_only_when_the_window_has_room(
    three_boards: Desk, digits_bundle: Bundle, images: Images
) -> None:
    deploy(three_boards, digits_bundle)
    taken = 0

    def feed() -> Iterator[dict[str, np.ndarray]]:
        nonlocal taken
        for image in images:
            taken += 1
            yield image

    with Pipeline("digits", three_boards.url, window=3) as pipeline:
        for received, _ in enumerate(pipeline.map(feed())):
            assert taken <= received + 3


def test_an_input_of_the_wrong_shape_or_dtype_is_refused_before_it_is_sent(
    three_boards: Desk, digits_bundle: Bundle, images: Images
) -> None:
    deploy(three_boards, digits_bundle)
    (image,) = images[0].values()
    with Pipeline("digits", three_boards.url) as pipeline:
        with pytest.raises(PayloadError, match=r"float32\[1, 95, 96, 3\]; expected float32\[1, 96"):
            pipeline.infer(image[:, :95])
        with pytest.raises(PayloadError, match=r"complex64.*expected float32"):
            pipeline.infer(image.astype(np.complex64))
        with pytest.raises(PayloadError, match="The model has no input"):
            pipeline.infer({"nonsense": image})


def test_an_unknown_deployment_is_named_with_those_that_are_live(
    three_boards: Desk, digits_bundle: Bundle
) -> None:
    deploy(three_boards, digits_bundle)
    with pytest.raises(
        UnknownDeploymentError, match="'digit' at this broker; live deployments: digits"
    ):
        Pipeline("digit", three_boards.url).open()


def test_a_missing_broker_is_an_error_at_once() -> None:
    with pytest.raises(BrokerUnreachableError, match=r"mqtt://127\.0\.0\.1:9"):
        Pipeline("digits", "mqtt://127.0.0.1:9").open()


def test_an_offline_board_is_named_when_the_request_times_out(
    three_boards: Desk, digits_bundle: Bundle, images: Images
) -> None:
    deploy(three_boards, digits_bundle)
    with Pipeline("digits", three_boards.url, timeout_s=2) as pipeline:
        three_boards.kill_agent("board-1")
        wait_until(lambda: not three_boards.is_online("board-1"), "board-1 offline")
        with pytest.raises(RequestError, match=r"offline: board-1 \(stage 1\)") as caught:
            pipeline.infer(images[0])
    assert caught.value.code == "timeout"


def test_a_killed_agent_loses_no_result_and_serves_again_without_a_host(
    three_boards: Desk, digits_bundle: Bundle, images: Images, whole_outputs: list[bytes]
) -> None:
    deploy(three_boards, digits_bundle)
    killed = threading.Event()

    def kill_and_restart() -> None:
        three_boards.kill_agent("board-1")
        killed.set()
        wait_until(lambda: not three_boards.is_online("board-1"), "board-1 offline")
        three_boards.start_agent("board-1")

    def feed() -> Iterator[dict[str, np.ndarray]]:
        for position, image in enumerate(images):
            if position == 10:
                thread.start()
                killed.wait()
            yield image

    thread = threading.Thread(target=kill_and_restart)
    with Pipeline("digits", three_boards.url) as pipeline:
        assert answers(pipeline, feed()) == whole_outputs
    thread.join()
    assert "from disk" in three_boards.log("board-1").read_text()


def test_a_broker_restart_in_the_middle_of_a_stream_loses_no_result(
    three_boards: Desk, digits_bundle: Bundle, images: Images, whole_outputs: list[bytes]
) -> None:
    # The broker keeps nothing on disk: it forgets sessions, queues and the manifest.
    deploy(three_boards, digits_bundle)
    thread = threading.Thread(target=three_boards.broker.restart)

    def feed() -> Iterator[dict[str, np.ndarray]]:
        for position, image in enumerate(images):
            if position == 10:
                thread.start()
            yield image

    with Pipeline("digits", three_boards.url, timeout_s=60) as pipeline:
        assert answers(pipeline, feed()) == whole_outputs
    thread.join()
    # An agent that served the deployment publishes the manifest again for later clients.
    with Deployer(three_boards.url) as deployer:
        wait_until(lambda: deployer.status().manifests != (), "the manifest")
    with Pipeline("digits", three_boards.url) as pipeline:
        assert answers(pipeline, images[:2]) == whole_outputs[:2]


def test_mosquitto_rr_gets_the_right_bytes_and_errors(
    three_boards: Desk, digits_bundle: Bundle
) -> None:
    # Before mosquitto 2.1 mosquitto_rr sends nothing for -f (its changelog: "Fix -f and -s
    # options in mosquitto_rr"), so the tensor goes as -m: pixels from 64 to 128 with no zero byte.
    deploy(three_boards, digits_bundle)
    (spec,) = digits_bundle.manifest.inputs
    pixels = np.random.default_rng(4).integers(1, 256, (spec.size_bytes // 4, 4), np.uint8)
    pixels[:, 3] = 0x42
    pixels[:, 2] |= 0x80
    payload = pixels.tobytes()
    assert payload != bytes(len(payload))

    def request(data: bytes, *options: str) -> bytes:
        words = ["mosquitto_rr", "-V", "5", "-q", "1", "-W", "20"]
        words += ["-p", str(three_boards.broker.port)]
        words += ["-t", "edge/v1/deployment/digits/stage/0", "-e", "edge/v1/client/me/result"]
        words += options
        return subprocess.run([*words, "-m", data], check=True, stdout=subprocess.PIPE).stdout

    assert request(payload, "-N") == whole_interpreter(digits_bundle).invoke(payload)
    refused = request(payload[:-4], "-F", "%P|%p").decode()
    assert "error:bad-payload" in refused
    assert f"{len(payload) - 4:,}" in refused
    assert f"{len(payload):,}" in refused


def test_mosquitto_pub_and_sub_are_a_complete_client(
    three_boards: Desk, digits_bundle: Bundle, images: Images, whole_outputs: list[bytes]
) -> None:
    deploy(three_boards, digits_bundle)
    file = three_boards.folder / "input.f32"
    file.write_bytes(encode_tensors(digits_bundle.manifest.inputs, images[0]))
    broker = ["-V", "5", "-q", "1", "-p", str(three_boards.broker.port)]
    reply = "edge/v1/client/me/result"
    with subprocess.Popen(
        # Without stdbuf, mosquitto_sub writes its output when it ends.
        ["stdbuf", "-oL", "mosquitto_sub", *broker, "-t", reply, "-C", "1", "-N", "-d", "-W", "20"],
        stdout=subprocess.PIPE,
    ) as subscriber:
        assert subscriber.stdout is not None
        # With -d, mosquitto_sub prints SUBACK when the broker has the subscription.
        while b"SUBACK" not in (line := subscriber.stdout.readline()):
            assert line, "mosquitto_sub ended without subscribing"
        words = ["mosquitto_pub", *broker, "-t", "edge/v1/deployment/digits/stage/0"]
        words += ["-D", "publish", "response-topic", reply, "-f", str(file)]
        subprocess.run(words, check=True)
        assert whole_outputs[0] in subscriber.stdout.read()


def test_two_deployments_share_the_same_boards(
    three_boards: Desk, digits_bundle: Bundle, images: Images, whole_outputs: list[bytes]
) -> None:
    deploy(three_boards, digits_bundle)
    whole = load_model(str(digits_bundle.whole_file))
    other = make_bundle(whole, three_boards.folder / "two", stages=2, deployment="digits-two")
    deploy(three_boards, other)
    with (
        Pipeline("digits", three_boards.url) as first,
        Pipeline("digits-two", three_boards.url) as second,
    ):
        pairs = zip(first.stream(images), second.stream(images), strict=True)
        for number, (one, two) in enumerate(pairs):
            for result, pipeline in ((one, first), (two, second)):
                found = encode_tensors(pipeline.manifest.outputs, result.outputs)
                assert found == whole_outputs[number]


def test_a_stream_goes_on_through_a_redeployment(
    three_boards: Desk, digits_bundle: Bundle, images: Images, whole_outputs: list[bytes]
) -> None:
    deploy(three_boards, digits_bundle)
    whole = load_model(str(digits_bundle.whole_file))
    other = make_bundle(whole, three_boards.folder / "two", stages=2)
    assert other.manifest.generation != digits_bundle.manifest.generation

    def feed() -> Iterator[dict[str, np.ndarray]]:
        for position, image in enumerate(images):
            if position == 10:
                thread.start()
            if position == len(images) - 5:
                thread.join()
            yield image
            time.sleep(0.01)

    thread = threading.Thread(target=deploy, args=(three_boards, other))
    with Pipeline("digits", three_boards.url) as pipeline:
        assert answers(pipeline, feed()) == whole_outputs
        assert pipeline.manifest.generation == other.manifest.generation
