from __future__ import annotations

import hashlib
import json
import resource
from typing import TYPE_CHECKING, Any

import pytest
from tflite_models import chain_of_adds

from edge_core.contract.manifest import Manifest, Pixels
from edge_core.errors import ManifestError
from edge_partition.bundles.bundle import Bundle, BundleError, deployment_name, read_bundle
from edge_partition.bundles.write_bundle import write_bundle
from edge_partition.facts.model_facts import ModelFacts, facts_of_manifest
from edge_partition.model.wrap_operations import WrappedOperation
from edge_partition.planning.fleet import Device, Fleet, equal_fleet
from edge_partition.planning.plan_split import plan_split
from edge_partition.tflite.read_tflite import read_tflite

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, *, stages: int = 2, fleet: Fleet | None = None, **options: Any) -> Bundle:
    model = read_tflite(chain_of_adds(options.pop("layers", ("first", "second", "third"))))
    plan = plan_split(model.graph, fleet or equal_fleet(stages), stages=stages)
    given = {"name": "Adds", "deployment": "adds", "quantization": "none", "weights": "trained"}
    return write_bundle(path, model, plan, **{**given, **options})


def content(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*.*")}


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("MobileNetV3Large", "mobilenet-v3-large"),
        ("MobileNetV3Small", "mobilenet-v3-small"),
        ("MobileNetV2", "mobilenet-v2"),
        ("DenseNet121", "densenet121"),
        ("NASNetMobile", "nasnet-mobile"),
        ("EfficientNetV2B0", "efficientnet-v2-b0"),
        ("ConvNeXtTiny", "convnext-tiny"),
        ("VGG16", "vgg16"),
        ("digits", "digits"),
        ("my model (final) 2", "my-model-final-2"),
        ("a/b+c#d", "a-b-c-d"),
        ("..hidden..", "hidden"),
        ("modèle", "modele"),
        ("模型", "model-c98e11"),
        ("狗", "model-cecd67"),
    ],
)
def test_a_deployment_is_named_after_its_model(model: str, name: str) -> None:
    assert deployment_name(model) == name


def test_a_name_from_a_long_file_stem_can_be_deployed(tmp_path: Path) -> None:
    name = deployment_name("very long " * 30)
    assert name.startswith("very-long-very-long")
    assert write(tmp_path / "build", deployment=name).manifest.deployment == name


def test_a_written_bundle_is_read_back_equal(tmp_path: Path) -> None:
    path = tmp_path / "new" / "build"
    written = write(path, stages=3, facts=ModelFacts(labels=("a", "b")))
    assert read_bundle(path) == written
    manifest = Manifest.from_json((path / "manifest.json").read_bytes())
    assert manifest.model.labels == ("a", "b")
    assert [stage.devices for stage in manifest.stages] == [
        ("board-0",),
        ("board-1",),
        ("board-2",),
    ]
    assert written.whole_file.read_bytes() == chain_of_adds()
    for stage in manifest.stages:
        data = (path / stage.file).read_bytes()
        assert len(data) == stage.size_bytes
        assert hashlib.sha256(data).hexdigest() == stage.sha256
    assert set(content(path)) == {
        "manifest.json",
        "plan.json",
        "plan.svg",
        "whole.tflite",
        *(f"stages/{index}.tflite" for index in range(3)),
    }


def test_facts_about_inputs_and_outputs_are_in_the_manifest_and_its_end_stages(
    tmp_path: Path,
) -> None:
    facts = ModelFacts(
        pixels={"x": Pixels("rgb", (127.5,), (127.5,), unit=127.5, said_by="option")},
        rate_hz={"x": 16_000},
        scores={"sum": "logits"},
        detections="yolo",
    )
    path = tmp_path / "build"
    write(path, stages=3, facts=facts)
    manifest = Manifest.from_json((path / "manifest.json").read_bytes())
    first, _, last = manifest.stages
    for (spec,) in (manifest.inputs, first.inputs):
        assert (spec.pixels, spec.rate_hz) == (facts.pixels["x"], 16_000)
    for (spec,) in (manifest.outputs, last.outputs):
        assert spec.scores == "logits"
    between = [*first.outputs, *last.inputs]
    assert all(spec.pixels is None and not spec.scores for spec in between)
    assert facts_of_manifest(manifest) == facts


def test_other_pixels_give_another_generation(tmp_path: Path) -> None:
    def generation(number: int, mean: float) -> str:
        facts = ModelFacts(pixels={"x": Pixels("gray", (mean,), (1.0,))})
        return write(tmp_path / f"build-{number}", facts=facts).manifest.generation

    assert generation(0, 0.0) == generation(1, 0.0) != generation(2, 1.0)


def test_progress_counts_the_stages(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write(tmp_path / "build", stages=3, on_stage=lambda *progress: seen.append(progress))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_bundle_replaces_the_previous_bundle_completely(tmp_path: Path) -> None:
    path = tmp_path / "build"
    write(path, stages=3)
    (path / "note.txt").write_text("of the old one")
    second = write(path, stages=2)
    assert read_bundle(path) == second
    assert not (path / "stages" / "2.tflite").exists()
    assert not (path / "note.txt").exists()
    assert list(tmp_path.iterdir()) == [path]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "build").mkdir()
    written = write(tmp_path / "build")
    assert read_bundle(tmp_path / "build") == written


def test_a_folder_with_other_files_and_a_file_are_not_changed(tmp_path: Path) -> None:
    folder, file = tmp_path / "photos", tmp_path / "file"
    folder.mkdir()
    (folder / "holiday.jpg").write_bytes(b"x")
    file.write_bytes(b"y")
    with pytest.raises(
        BundleError, match=r"with other files, not a bundle; name another folder with -o"
    ) as caught:
        write(folder)
    assert caught.value.path == folder
    with pytest.raises(BundleError, match="is a file; name a folder"):
        write(file)
    assert content(folder) == {"holiday.jpg": b"x"}
    assert file.read_bytes() == b"y"
    assert sorted(tmp_path.iterdir()) == [file, folder]


@pytest.mark.parametrize("name", ["", "a/b", "#", ".hidden", "x" * 129])
def test_a_deployment_name_that_is_no_topic_level_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleError, match="Give another name with --name"):
        write(tmp_path / "build", deployment=name)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_bundle_and_no_stray_folder(tmp_path: Path) -> None:
    path = tmp_path / "build"
    write(path)
    before = content(path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The kernel refuses larger files, as on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before["whole.tflite"]) - 1, hard))
    try:
        with pytest.raises(BundleError, match="can't be written: File too large"):
            write(path, layers=("other", "layers"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert content(path) == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_write_leaves_the_old_bundle_and_no_stray_folder(tmp_path: Path) -> None:
    path = tmp_path / "build"
    write(path)
    before = content(path)

    def interrupt(_done: int, _all: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(path, layers=("other", "layers"), on_stage=interrupt)
    assert content(path) == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match=r"file/build: can't be written: "):
        write(tmp_path / "file" / "build")


@pytest.mark.parametrize("file", ["whole.tflite", "stages/0.tflite", "stages/1.tflite"])
def test_a_damaged_and_a_missing_file_are_named(tmp_path: Path, file: str) -> None:
    path = tmp_path / "build"
    write(path)
    data = bytearray((path / file).read_bytes())
    data[len(data) // 2] ^= 1
    (path / file).write_bytes(data)
    with pytest.raises(BundleError, match=rf"{file} is damaged: .* Split the model again"):
        read_bundle(path)
    (path / file).unlink()
    with pytest.raises(
        BundleError, match=r"tflite can't be read \(No such file.*Split the model again"
    ):
        read_bundle(path)


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(BundleError, match=r"it has no manifest\.json"):
            read_bundle(path)


def test_a_manifest_with_a_file_outside_the_bundle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "build"
    write(path)
    document = json.loads((path / "manifest.json").read_text())
    document["stages"][0]["file"] = "../secret"
    (path / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(ManifestError, match=r"stages\[0\]\.file"):
        read_bundle(path)


def test_equal_splits_have_equal_generations_and_other_splits_have_others(tmp_path: Path) -> None:
    def generation(number: int, **options: Any) -> str:
        return write(tmp_path / f"build-{number}", **options).manifest.generation

    first = generation(0)
    assert generation(1) == first
    assert generation(2, name="renamed") == first
    elsewhere = Fleet((Device(name="pi-1"), Device(name="pi-2")))
    others = [
        generation(3, stages=3),
        generation(4, fleet=elsewhere),
        generation(5, layers=("first", "second", "3rd")),
        generation(6, facts=ModelFacts(labels=("cat",))),
    ]
    assert len({first, *others}) == 5


def test_a_manifest_names_the_layers_of_each_stage_and_its_wrapped_constants(
    tmp_path: Path,
) -> None:
    wrapped = [
        WrappedOperation(name, "keras.src.ops.numpy.Add", (f"x2={value}",))
        for name, value in (("first", "3.0"), ("third", "0.5"), ("vanished", "1.0"))
    ]
    names = ["m/first/Add", "m/second/Add", "m/third/Relu;m/third_bn/batchnorm/add_1;m/third/Add"]
    bundle = write(tmp_path / "build", stages=4, layers=names, wrapped=tuple(wrapped))
    manifest = bundle.manifest
    assert [stage.layers for stage in manifest.stages] == [
        ("first",),
        ("second",),
        ("third", "third_bn"),
        ("sum",),
    ]
    told = [[str(layer) for layer in stage.wrapped] for stage in manifest.stages]
    assert told == [["first: Add(x2=3.0)"], [], ["third: Add(x2=0.5)"], []]


def test_a_manifest_of_a_thousand_operators_in_two_stages_stays_small(tmp_path: Path) -> None:
    names = [
        f"a_rather_long_name_of_a_block_{number:04}_and_its_normalisation" for number in range(999)
    ]
    wrapped = tuple(
        WrappedOperation(name, "keras.src.ops.numpy.Multiply", ("x2=0.16666666666666666",))
        for name in names
    )
    bundle = write(tmp_path / "build", layers=[f"m/{name}/Mul" for name in names], wrapped=wrapped)
    for stage in bundle.manifest.stages:
        assert (len(stage.layers), len(stage.wrapped)) == (256, 64)
    assert sum(stage.more_layers for stage in bundle.manifest.stages) == 1000 - 2 * 256
    assert sum(stage.more_wrapped for stage in bundle.manifest.stages) == 999 - 2 * 64
    assert (bundle.path / "manifest.json").stat().st_size < 100_000
