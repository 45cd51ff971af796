"""Write one model's file, its inputs, and the original's answers, in a process of its own.

    python -m people_models.prepare NAME FOLDER

The script writes ``source.json`` (the MODEL argument), ``inputs.npz`` and ``answers.npz``. In both
``.npz`` files, an array's key is its position and name, such as ``0:image``; the first dimension
is the sample.
"""

# ruff: noqa: PLC0415 -- each model needs other packages
from __future__ import annotations

import json
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_partition.model import keras_setup  # noqa: F401 -- before TensorFlow

# isort: split
import numpy as np

from people_models.collect import build
from people_models.fetch import fetch_file
from people_models.samples import input_specs, made_up
from people_models.spec import COLLECTION

if TYPE_CHECKING:
    from collections.abc import Callable

    from people_models.spec import PeopleModel

_SAMPLES = 3
_FUNCTION = """from people_models.collect import build


def model():
    return build("{name}")
"""
Named = list[tuple[str, Any]]


def prepare(name: str, folder: Path) -> None:
    """Write a model's file, inputs and answers to ``folder``."""
    model = COLLECTION[name]
    if model.file is not None:
        source = fetch_file(model.file)
    elif model.form == "function":
        source = folder / f"{name.replace('-', '_')}.py"
        source.write_text(_FUNCTION.format(name=name))
    else:
        suffix = "" if model.form == "saved_model" else f".{model.form}"
        source = folder / f"{name}{suffix}"
    built = None if model.file is not None and not model.keras2 else _built(model, source)
    argument = f"{source.stem}:model" if model.form == "function" else str(source)
    (folder / "source.json").write_text(json.dumps(argument))
    if model.refused:
        return
    specs, answer = _reference(model, source, built)
    generator = np.random.default_rng(zlib.crc32(name.encode()) + 1)
    samples = [[made_up(model, generator, *spec) for spec in specs] for _ in range(_SAMPLES)]
    answers = [answer(sample) for sample in samples]
    _save(folder / "inputs.npz", [spec[0] for spec in specs], samples)
    names = [each for each, _ in answers[0]]
    _save(folder / "answers.npz", names, [[array for _, array in each] for each in answers])


def _save(path: Path, names: list[str], samples: list[list[Any]]) -> None:
    stacked = [np.stack(arrays) for arrays in zip(*samples, strict=True)]
    keys = [f"{position}:{name.replace('/', '|')}" for position, name in enumerate(names)]
    np.savez(path, **dict(zip(keys, stacked, strict=True)))


def _built(model: PeopleModel, source: Path) -> Any:
    if model.file is not None:
        import tf_keras

        return tf_keras.models.load_model(source, compile=False)
    built = build(model.name)
    if model.form == "saved_model":
        _save_folder(model, built, source)
    elif model.form != "function":
        built.save(source)
    return built


def _save_folder(model: PeopleModel, built: Any, folder: Path) -> None:
    import tensorflow as tf

    if hasattr(built, "save_spec"):
        built.save(folder, save_format="tf")
    elif hasattr(built, "export"):
        spec = None if model.exported is None else [tf.TensorSpec(model.exported, tf.float32)]
        built.export(folder, verbose=False, input_signature=spec)
    else:
        tf.saved_model.save(built, str(folder), signatures=built.__call__)


def _reference(
    model: PeopleModel, source: Path, built: Any
) -> tuple[list[tuple[str, str, list[int | None]]], Callable[[list[Any]], Named]]:
    """Return a model's inputs (name, dtype, shape), and the function that answers a sample."""
    if source.suffix == ".tflite":
        return _tflite_reference(source)
    if source.is_dir():
        return _saved_model_reference(source)
    if getattr(built, "inputs", None) is None:
        shape = [1, *model.shapes.get("", (6,))]
        return [("", "float32", shape)], lambda sample: _flat(built(*sample, training=False))
    return input_specs(built), lambda sample: _flat(_predict(built, sample))


def _predict(built: Any, sample: list[Any]) -> Any:
    # In a traced model, Keras refuses layer names with spaces or umlauts.
    built.run_eagerly = any(not layer.name.replace("/", "").isascii() for layer in built.layers)
    for layer in built.layers:
        if getattr(layer, "stateful", False) and hasattr(layer, "reset_states"):
            layer.reset_states()
        elif getattr(layer, "stateful", False) and hasattr(layer, "reset_state"):
            layer.reset_state()
    structure = getattr(built, "_inputs_struct", None)
    if isinstance(structure, dict):
        names = {id(tensor): key for key, tensor in structure.items()}
        given = {
            names[id(tensor)]: array for tensor, array in zip(built.inputs, sample, strict=True)
        }
        return built.predict(given, verbose=0)
    return built.predict(sample if len(sample) > 1 else sample[0], verbose=0)


def _flat(answer: Any) -> Named:
    if isinstance(answer, dict):
        return [(name, np.asarray(answer[name])) for name in sorted(answer)]
    if isinstance(answer, list | tuple):
        return [("", np.asarray(each)) for each in answer]
    return [("", np.asarray(answer))]


def _saved_model_reference(source: Path) -> Any:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(source))  # Kept: the variables are freed with it.
    signature = loaded.signatures["serving_default"]
    specs = [
        (name, spec.dtype.name, list(spec.shape))
        for name, spec in signature.structured_input_signature[1].items()
    ]

    def answer(sample: list[Any]) -> Named:
        given = {name: tf.constant(array) for (name, *_), array in zip(specs, sample, strict=True)}
        answers = loaded.signatures["serving_default"](**given)
        return _flat({key: value.numpy() for key, value in answers.items()})

    return specs, answer


def _tflite_reference(source: Path) -> Any:
    """Return the inputs, and a function that answers with a new plain interpreter."""
    from ai_edge_litert.interpreter import Interpreter

    details = Interpreter(str(source)).get_input_details()
    specs = [
        (each["name"], np.dtype(each["dtype"]).name, _sizes(each["shape_signature"], each["shape"]))
        for each in details
    ]

    def answer(sample: list[Any]) -> Named:
        interpreter = Interpreter(str(source))
        for each, array in zip(details, sample, strict=True):
            if tuple(each["shape"]) != array.shape:
                interpreter.resize_tensor_input(each["index"], array.shape)
        interpreter.allocate_tensors()
        for each, array in zip(details, sample, strict=True):
            interpreter.set_tensor(each["index"], array)
        interpreter.invoke()
        return [
            (each["name"], interpreter.get_tensor(each["index"]).copy())
            for each in interpreter.get_output_details()
        ]

    return specs, answer


def _sizes(signature: np.ndarray, shape: np.ndarray) -> list[int | None]:
    """Return a shape, with None for dimensions that the file leaves open."""
    known = signature if len(signature) == len(shape) else shape
    return [int(size) if size > 0 else None for size in known]


if __name__ == "__main__":
    prepare(sys.argv[1], Path(sys.argv[2]))
