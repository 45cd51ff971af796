"""Pictures in every form through real boards, and the description of their answers."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import state_models
from ai_edge_litert import schema_py_generated as schema
from any_topic import any_topic
from commands import BIN, failed, run
from desk import EXAMPLES, make_bundle, wait_until
from PIL import Image
from tflite_models import FlatModel

from edge_core.contract.manifest import Pixels
from edge_core.contract.messages import ERROR, ErrorCode
from edge_core.contract.topics import Topics
from edge_core.errors import EdgePartitionError
from edge_core.mqtt.broker_address import BrokerAddress
from edge_core.mqtt.connection import Connection
from edge_partition.boards.deploy_bundle import Deployer
from edge_partition.bundles.write_bundle import write_bundle
from edge_partition.client.errors import NotOpenError, OutputsError, RequestError
from edge_partition.client.pipeline import Pipeline
from edge_partition.client.result import Result
from edge_partition.facts.model_facts import ModelFacts
from edge_partition.inputs.load_inputs import load_input
from edge_partition.inputs.pixels import PixelsError
from edge_partition.planning.fleet import equal_fleet
from edge_partition.planning.plan_split import plan_split
from edge_partition.tflite.read_tflite import read_tflite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from desk import Desk

    from edge_core.contract.manifest import Manifest
    from edge_core.mqtt.connection import Message
    from edge_partition.bundles.bundle import Bundle
    from edge_partition.model.load_model import LoadedTflite

IMAGES = sorted((EXAMPLES / "digits" / "images").iterdir())
#: Pixels that the digits model was not trained on, so that their effect shows.
PIXELS = Pixels("bgr", (20.0,), (1.25,), said_by="option")


@pytest.fixture
def board(desk: Desk) -> Desk:
    desk.start_agent("board-0")
    return desk


def deploy(desk: Desk, model: LoadedTflite, folder: Path, name: str = "digits") -> Manifest:
    bundle = make_bundle(model, folder, stages=1, deployment=name)
    with Deployer(desk.url) as deployer:
        deployer.deploy(bundle)
    return bundle.manifest


def deploy_file(desk: Desk, data: bytes, folder: Path, name: str, **options: Any) -> Manifest:
    model = read_tflite(data)
    bundle = write_bundle(
        folder,
        model,
        plan_split(model.graph, equal_fleet(1), stages=1),
        name=name,
        deployment=name,
        quantization="as-given",
        weights="trained",
        **options,
    )
    with Deployer(desk.url) as deployer:
        deployer.deploy(bundle)
    return bundle.manifest


def test_a_picture_in_any_form_gives_the_answer_that_run_gives(
    board: Desk, digits_model: LoadedTflite, tmp_path: Path
) -> None:
    pixels = dict.fromkeys(digits_model.facts.pixels, PIXELS)
    facts = replace(digits_model.facts, pixels=pixels)
    deploy(board, replace(digits_model, facts=facts), tmp_path / "b")
    deploy(board, digits_model, tmp_path / "c", "plain")
    # A coloured picture of another size than the model's 96x96.
    noise = np.random.default_rng(5).integers(0, 60, (101, 77, 3), np.uint8)
    with Image.open(IMAGES[7]) as image:
        picture = np.asarray(image.convert("RGB").resize((77, 101))) // 2 + noise
    file = tmp_path / "odd.png"
    Image.fromarray(picture).save(file)

    outputs = tmp_path / "outputs.npz"
    words = ["run", "digits", file, "--broker", board.url, "--top", 3]
    document = json.loads(run("edge-partition", *words, "-o", outputs, "--json").stdout)
    with np.load(outputs) as archive:
        (expected,) = next(iter(archive.values()))
    (result,) = document["results"]
    assert result["outputs"][0]["values"] == expected.astype(float).tolist()
    line = run("edge-partition", *words).stdout.splitlines()[0]
    best = [f"{item['label']} {item['score']:.1%}" for item in result["labels"]]
    assert line == f"{file}: {', '.join(best)}"

    with Pipeline("digits", board.url) as pipeline, Pipeline("plain", board.url) as plain:
        forms = [file, str(file), Image.open(file), picture, [picture]]
        found = list(pipeline.map(forms))
        assert [np.asarray(scores).tobytes() for scores in found] == [expected.tobytes()] * 5
        # Floats are not rounded: nearly the same answer.
        assert pipeline.infer(picture.astype(np.float32)) == pytest.approx(expected, abs=0.01)
        labels = pipeline.labels(found[0], top=3)
        assert labels == [(item["label"], item["score"]) for item in result["labels"]]
        (streamed,) = pipeline.stream([file])
        assert pipeline.labels(streamed, top=3) == labels
        # The comparison could fail: other pixels give another answer.
        assert np.abs(np.asarray(plain.infer(file)) - expected).max() > 0.01
        with pytest.raises(PixelsError, match="floats from 0"):
            pipeline.infer(picture / 255)


def test_each_stacked_array_has_an_answer_and_guesses_are_reported(
    board: Desk, digits_model: LoadedTflite, tmp_path: Path
) -> None:
    specs = deploy(board, digits_model, tmp_path / "b").inputs
    stack = tmp_path / "stack.npy"
    words = ["run", "digits", "--broker", board.url]
    alone = run("edge-partition", *words, *IMAGES[:3])
    assert alone.returncode == 0, alone.stderr
    assert alone.stdout.count("(a guess)") == 1
    inputs = [load_input(file, specs) for file in IMAGES[:3]]
    np.save(stack, np.concatenate([array for arrays in inputs for array in arrays.values()]))
    stacked = run("edge-partition", *words, stack)
    assert stacked.returncode == 0, stacked.stderr
    assert "guess" not in stacked.stdout
    answers = [
        [line.partition(": ")[2] for line in result.stdout.splitlines()[:3]]
        for result in (alone, stacked)
    ]
    assert answers[0] == answers[1]
    assert [f"{stack}[{place}]" for place in range(3)] == [
        line.partition(": ")[0] for line in stacked.stdout.splitlines()[:3]
    ]
    assert "are not known to be boxes" in failed(*words, IMAGES[0], "--draw", tmp_path / "drawn")
    assert not (tmp_path / "drawn").exists()


#: Centre x, centre y, width and height as fractions of the input, then scores of two classes.
HEAD = np.zeros((1, 6, 20), np.float32)
HEAD[0, :, 3] = 0.5, 0.5, 0.5, 0.25, 0.9, 0.0
HEAD[0, :, 4] = 0.5, 0.5, 0.5, 0.27, 0.8, 0.0
HEAD[0, :, 9] = 0.25, 0.25, 0.25, 0.25, 0.0, 0.6


def detector() -> bytes:
    """A model that finds the same boxes in every picture of 64x64."""
    flat = FlatModel()
    image = flat.tensor("image", (1, 64, 64, 3))
    axes = flat.constant("axes", np.array([1, 2, 3], np.int32))
    mean, none, head = (
        flat.tensor(name, shape)
        for name, shape in (("mean", (1,)), ("none", HEAD.shape), ("head", HEAD.shape))
    )
    flat.operator("MEAN", [image, axes], [mean], schema.ReducerOptionsT())
    zeros = flat.constant("zeros", np.zeros_like(HEAD))
    flat.operator("MUL", [mean, zeros], [none], schema.MulOptionsT())
    flat.operator("ADD", [none, flat.constant("boxes", HEAD)], [head], schema.AddOptionsT())
    return flat.to_bytes([image], [head])


def test_boxes_are_printed_and_drawn_in_the_pictures_own_pixels(
    board: Desk, tmp_path: Path
) -> None:
    pixels = Pixels("rgb", (0.0,), (255.0,), fit="letterbox", said_by="metadata")
    labels = ("cat", "größe\x1b[2J")
    facts = ModelFacts(labels=labels, pixels={"image": pixels}, detections="yolo")
    deploy_file(board, detector(), tmp_path / "b", "detector", facts=facts)
    # Letterboxed to 64x64 by a fifth: 64x32 with bars of 16 above and below.
    files = [tmp_path / place / "street.png" for place in ("here", "there")]
    for file in files:
        file.parent.mkdir()
        Image.new("RGB", (320, 160), "white").save(file)
    drawn = tmp_path / "drawn"
    words = ["run", "detector", *files, "--broker", board.url, "--draw", drawn]
    result = run("edge-partition", *words)
    assert result.returncode == 0, result.stderr
    line = "2 boxes: cat 90.0% at 80,40 to 240,120; größe\\x1b[2J 60.0% at 40,0 to 120,40"
    assert result.stdout.splitlines()[:2] == [f"{file}: {line}" for file in files]
    document = json.loads(run("edge-partition", *words, "--json").stdout)
    assert sorted(drawn.iterdir()) == [drawn / "street-2.png", drawn / "street.png"]
    for row, name in zip(document["results"], ("street.png", "street-2.png"), strict=True):
        assert row["drawn"] == str(drawn / name)
        box = row["boxes"][0]
        assert [box[side] for side in ("left", "top", "right", "bottom")] == [80, 40, 240, 120]
        with Image.open(drawn / name) as picture:
            assert picture.size == (320, 160)
            # The box's edges are drawn, and the picture is white inside and outside.
            assert picture.getpixel((80, 80)) == picture.getpixel((239, 80)) != (255, 255, 255)
            for x in (70, 90, 230, 250):
                assert picture.getpixel((x, 80)) == (255, 255, 255)
    assert "could overwrite them" in failed(*words[:-1], files[0].parent)
    strict = run("edge-partition", *words[:6], "--min-score", 0.95)
    assert "no boxes" in strict.stdout

    with Pipeline("detector", board.url) as pipeline:
        forms = [files[0], Image.open(files[0]), np.full((160, 320, 3), 255, np.uint8)]
        for answered in pipeline.stream(forms):
            assert str(pipeline.answer(answered)) == line
        # Arrays alone say nothing of the picture: boxes are in the input's own pixels.
        boxes = pipeline.answer(answered.outputs).boxes
        assert boxes is not None
        assert (boxes[0].left, boxes[0].top, boxes[0].right, boxes[0].bottom) == (16, 24, 48, 40)


def test_more_than_one_request_in_flight_is_refused_where_state_is_kept(
    desk: Desk, digits_bundle: Bundle
) -> None:
    manifest = digits_bundle.manifest
    kept = replace(manifest, model=replace(manifest.model, state="keep"))
    topic = Topics().manifest("digits")
    image = np.zeros(manifest.inputs[0].shape, np.float32)
    with Connection(BrokerAddress.parse(desk.url, environ={}), "test-publisher") as publisher:
        publisher.publish_and_wait(any_topic(topic, retained=True), kept.to_json().encode())
        with (
            Pipeline("digits", desk.url, window=2) as pipeline,
            pytest.raises(EdgePartitionError, match=r"window is 2; expected 1.*keeps state"),
        ):
            pipeline.infer(image)
        # No board serves the deployment: only the first of three requests is taken.
        taken = [image] * 3
        with (
            Pipeline("digits", desk.url, timeout_s=0.2) as pipeline,
            pytest.raises(RequestError, match="No answer"),
        ):
            list(pipeline.stream(taken.pop() for _ in range(3)))
        assert len(taken) == 2


def test_a_refused_input_leaves_a_kept_state_intact(board: Desk, tmp_path: Path) -> None:
    data = state_models.chain()
    manifest = deploy_file(board, data, tmp_path / "b", "stateful", state="keep")
    array = np.ones(manifest.inputs[0].shape, np.float32)
    with Pipeline("stateful", board.url) as pipeline:
        expected = [np.asarray(answer).tobytes() for answer in pipeline.map([array] * 3)]
    assert len(set(expected)) == 3
    with Pipeline("stateful", board.url) as pipeline:
        found = [np.asarray(pipeline.infer(array)).tobytes()]
        for wrong in (array.astype(np.complex64), array[:, :2], "nowhere.npy"):
            with pytest.raises(EdgePartitionError):
                pipeline.infer(wrong)
        found += [np.asarray(pipeline.infer(array)).tobytes() for _ in range(2)]
    assert found == expected


def test_each_picture_fills_a_larger_batch_and_has_its_own_answer(
    board: Desk, tmp_path: Path
) -> None:
    """A model of four pictures at once that doubles them, with five pictures."""
    flat, shape = FlatModel(), (4, 2, 2, 3)
    pictures = flat.tensor("pictures", shape)
    doubled = flat.tensor("doubled", shape)
    flat.operator("ADD", [pictures, pictures], [doubled], schema.AddOptionsT())
    deploy_file(board, flat.to_bytes([pictures], [doubled]), tmp_path / "b", "double")
    files = [tmp_path / f"{value}.png" for value in range(1, 6)]
    for value, file in enumerate(files, start=1):
        Image.new("RGB", (9, 9), (value,) * 3).save(file)
    outputs = tmp_path / "outputs.npz"
    result = run("edge-partition", "run", "double", *files, "--broker", board.url, "-o", outputs)
    assert result.returncode == 0, result.stderr
    assert [line.partition(" to ")[0] for line in result.stdout.splitlines()[:5]] == [
        f"{file}: float32[1, 2, 2, 3], {2 * value}" for value, file in enumerate(files, start=1)
    ]
    assert "2 requests in" in result.stdout
    with np.load(outputs) as archive:
        (rows,) = archive.values()
    assert rows.shape == (5, 1, 2, 2, 3)
    with Pipeline("double", board.url) as pipeline:
        answers = [np.asarray(answer) for answer in pipeline.map([*files, Image.open(files[0])])]
        assert [answer.tobytes() for answer in answers[:5]] == [row.tobytes() for row in rows]
        assert answers[5].tobytes() == rows[0].tobytes()
        # An array of the whole batch has one answer.
        whole = np.arange(48, dtype=np.float32).reshape(shape)
        assert np.asarray(pipeline.infer(whole)).tobytes() == (2 * whole).tobytes()


def test_a_bad_file_is_named_and_all_others_are_answered(
    board: Desk, digits_model: LoadedTflite, tmp_path: Path
) -> None:
    deploy(board, digits_model, tmp_path / "b")
    folder, outputs = tmp_path / ":smile: [red]in", tmp_path / "outputs.npz"
    folder.mkdir()
    files = [folder / f"{place}.png" for place in range(6)]
    for file, image in zip(files, IMAGES, strict=False):
        file.write_bytes(image.read_bytes())
    words = ["run", "digits", "--broker", board.url]
    whole = run("edge-partition", *words, folder).stdout.splitlines()[:6]
    for place in (1, 5):
        files[place].write_bytes(b"no picture")
    result = run("edge-partition", *words, folder, "-o", outputs)
    assert result.returncode == 1
    assert result.stdout.splitlines()[:4] == [whole[place] for place in (0, 2, 3, 4)]
    assert whole[0].startswith(f"{files[0]}: ")
    lines = result.stderr.splitlines()
    assert len(lines) == 3
    for line, place in zip(lines, (1, 5), strict=False):
        assert line.startswith(f"edge-partition: {files[place]}: ")
    assert lines[-1].startswith("edge-partition: 2 of 6 inputs had no answer; ")
    with np.load(outputs) as archive:
        assert len(next(iter(archive.values()))) == 4

    result = run("edge-partition", *words, folder, "--json")
    document = json.loads(result.stdout)
    assert (result.returncode, document["failed"], document["stopped"]) == (1, 2, None)
    assert [row["input"] for row in document["results"]] == [str(file) for file in files]
    assert ["error" in row for row in document["results"]] == [False, True, False, False, False,
                                                              True]  # fmt: skip
    # With one input, its own error is enough.
    assert str(files[1]) in failed(*words, files[1])


def test_lines_are_printed_as_answers_arrive_and_remain_after_an_interrupt(
    board: Desk, digits_model: LoadedTflite, tmp_path: Path
) -> None:
    deploy(board, digits_model, tmp_path / "b")
    outputs = tmp_path / "outputs.npz"
    words = ["run", "digits", *[IMAGES[0]] * 20_000, "--broker", board.url, "-o", outputs]
    with subprocess.Popen(
        [BIN / "edge-partition", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        first = [process.stdout.readline() for _ in range(3)]
        # The lines are there while the command still runs.
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.strip() == "edge-partition: interrupted"
    assert len(set(first)) == 1
    assert first[0].startswith(f"{IMAGES[0]}: ")
    lines = [line for line in rest.splitlines() if line.startswith(str(IMAGES[0]))]
    with np.load(outputs) as archive:
        kept = len(next(iter(archive.values())))
    # One more if the interrupt came between keeping an output and printing its line.
    assert kept - 3 - len(lines) in {0, 1}
    assert kept < 20_000


@pytest.fixture
def strange_board(desk: Desk, digits_bundle: Bundle) -> Iterator[Connection]:
    """A foreign board that fails inputs that begin with 1, and doesn't answer those with 2."""
    topics = Topics()
    with Connection(BrokerAddress.parse(desk.url, environ={}), "other-make") as other:

        def serve(message: Message) -> None:
            (kind,) = np.frombuffer(message.payload[:4], np.float32)
            if kind == 2:
                return
            scores = np.full((1, 10), kind, np.float32).tobytes()
            other.publish(
                any_topic(message.response_topic),
                b"stage 0 failed: out of luck" if kind == 1 else scores,
                correlation_data=message.correlation_data,
                user={ERROR: ErrorCode.STAGE_FAILED} if kind == 1 else None,
            )

        for name in ("digits", "kept"):
            manifest = replace(digits_bundle.manifest, deployment=name)
            if name == "kept":
                manifest = replace(manifest, model=replace(manifest.model, state="keep"))
            other.publish(topics.manifest(name), manifest.to_json().encode())
            first = manifest.stages[0].devices[0]
            other.subscribe(topics.board_stage(name, 0, first), serve, timeout_s=10)
        yield other


def told(answers: Iterable[Result | EdgePartitionError]) -> list[float | str]:
    return [
        float(next(iter(item.outputs.values()))[0, 0])
        if isinstance(item, Result)
        else getattr(item, "code", "refused")
        for item in answers
    ]


def test_errors_are_in_their_inputs_places_and_the_stream_continues(
    desk: Desk, strange_board: Connection, digits_bundle: Bundle
) -> None:
    shape = digits_bundle.manifest.inputs[0].shape
    good, bad, mute, wrong = (np.full(shape, kind, np.float32) for kind in (0, 1, 2, 3))
    wrong = wrong[:, 1:]
    mixed = [good, bad, wrong, good, mute, mute, good]
    with Pipeline("digits", desk.url, timeout_s=0.5, window=3) as pipeline:
        expected = [0, "stage-failed", "refused", 0, "timeout", "timeout", 0]
        assert told(pipeline.stream(mixed, on_error="yield")) == expected
        # By default the error is raised, after the answers before it.
        stream = pipeline.stream(mixed)
        assert told([next(stream)]) == [0]
        with pytest.raises(RequestError, match="out of luck"):
            next(stream)
        # As many timeouts as the window has places end the stream.
        with pytest.raises(
            RequestError, match="Check the boards with `edge-partition status digits`"
        ):
            told(pipeline.stream([good] + [mute] * 1000, on_error="yield"))
        strange_board.publish(Topics().manifest("digits"), b"")
        with pytest.raises(RequestError, match="undeployed") as caught:
            told(pipeline.stream([mute] * 3, on_error="yield"))
        assert caught.value.is_final
        # A request after the pipeline knows of the end fails too.
        wait_until(lambda: pipeline._requests.state.ended is not None, "the pipeline knows")
        with pytest.raises(RequestError, match="undeployed"):
            pipeline.infer(mute)
    # A kept state that may lack a request's effect ends the stream.
    with Pipeline("kept", desk.url, timeout_s=0.5) as pipeline:
        with pytest.raises(RequestError, match="out of luck"):
            told(pipeline.stream([good, bad, good], on_error="yield"))
        assert told(pipeline.stream([good, wrong, good], on_error="yield")) == [
            0, "refused", 0,
        ]  # fmt: skip


def test_a_failed_request_is_reported_for_its_input(
    desk: Desk, strange_board: Connection, digits_bundle: Bundle, tmp_path: Path
) -> None:
    del strange_board
    stack = tmp_path / "stack.npy"
    shape = digits_bundle.manifest.inputs[0].shape[1:]
    np.save(stack, np.stack([np.full(shape, kind, np.float32) for kind in (0, 1, 5)]))
    result = run("edge-partition", "run", "digits", stack, "--broker", desk.url)
    assert result.returncode == 1
    assert [line.partition(": ")[0] for line in result.stdout.splitlines()[:2]] == [
        f"{stack}[0]",
        f"{stack}[2]",
    ]
    assert result.stderr == (
        f"edge-partition: {stack}[1]: stage 0 failed: out of luck\n"
        "edge-partition: 1 of 3 inputs had no answer; the lines above give the reasons.\n"
    )


def test_using_a_pipeline_that_is_not_open_is_an_error_at_once(
    board: Desk, digits_model: LoadedTflite, tmp_path: Path
) -> None:
    deploy(board, digits_model, tmp_path / "b")
    pipeline = Pipeline("digits", board.url)
    outputs = np.zeros((1, 10), np.float32)
    uses: list[Callable[[], object]] = [
        lambda: pipeline.infer(IMAGES[0]),
        lambda: list(pipeline.stream([IMAGES[0]], on_error="yield")),
        lambda: pipeline.labels(outputs),
        lambda: pipeline.manifest,
    ]
    for use in uses:
        with pytest.raises(NotOpenError, match=r"`with` block, or call open\(\) first"):
            use()
    with pipeline:
        half = pipeline.stream(IMAGES[:20])
        next(half)
        pipeline.close()
        with pytest.raises(EdgePartitionError, match=r"closed|not open"):
            list(half)
    started = time.monotonic()
    for use in uses[:2]:
        with pytest.raises(NotOpenError):
            use()
    assert time.monotonic() - started < 1
    # Earlier outputs can still be explained.
    assert len(pipeline.labels(outputs)) == 5


def test_labels_refuse_outputs_that_are_not_those_of_one_input(
    board: Desk, digits_model: LoadedTflite, tmp_path: Path
) -> None:
    deploy(board, digits_model, tmp_path / "b")
    with Pipeline("digits", board.url) as pipeline:
        (name,) = [spec.name for spec in pipeline.manifest.outputs]
        scores = np.eye(10, dtype=np.float32)[[3, 1, 4, 1]]
        for row, best in zip(scores, "3141", strict=True):
            assert pipeline.labels(row, top=1) == pipeline.labels({name: row}, top=1)
            assert pipeline.labels(row[None], top=1)[0][0] == best
        for wrong, words in (
            (None, "NoneType given"),
            ("photo.png", "str given"),
            ([[1.0], [1.0, 2.0]], "list given"),
            ({name: None}, "NoneType given"),
            ({}, "has no outputs"),
            (scores, "4 rows.*row at a time"),
        ):
            with pytest.raises(OutputsError, match=words):
                pipeline.labels(wrong)  # type: ignore[arg-type]
        status = run("edge-partition", "status", "digits", "--broker", board.url).stdout
        assert "digits takes " in status
        assert f"digits gives {name} float32[1, 10]" in status
