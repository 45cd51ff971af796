"""The whole collection, and how a model of it is built."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from people_models import (  # noqa: F401 -- each enters its models
    files,
    keras2,
    keras_hub,
    libraries,
    pictures,
    sequences,
    sequentials,
)
from people_models.samples import input_specs, made_up
from people_models.spec import COLLECTION, PeopleModel

#: The table's order: those not named follow as they were entered, files of packages last.
_LAST = ("KerasHub", "Keras 2", "Python packages", "Files of packages")


def models() -> list[PeopleModel]:
    """Return every model, in the order of the table."""
    first = "Sequential"
    ranks = {first: -1, **{kind: rank for rank, kind in enumerate(_LAST, 1)}}
    return sorted(COLLECTION.values(), key=lambda model: ranks.get(model.kind, 0))


def build(name: str) -> Any:
    """Build a model, the same in every process, with no weight left at a constant.

    Biases of 0, scales of 1 and embeddings of one value would hide that a layer is left out.
    """
    model = COLLECTION[name]
    seed = zlib.crc32(name.encode())
    if model.build is None:
        raise ValueError(f"{name} is a file")
    module = __import__("tf_keras" if model.keras2 else "keras")
    module.utils.set_random_seed(seed % 2**31)
    built = model.build()
    generator = np.random.default_rng(seed)
    for weight in getattr(built, "weights", ()):
        _unsettle(weight, generator)
    _measure_statistics(model, built, generator)
    return built


def _measure_statistics(model: PeopleModel, built: Any, generator: np.random.Generator) -> None:
    """Let batch normalizations see inputs: with their first statistics deep models answer alike."""
    layers = list(built._flatten_layers()) if getattr(built, "inputs", None) else []  # noqa: SLF001
    normalizations = [each for each in layers if type(each).__name__ == "BatchNormalization"]
    if not normalizations or any(spec[1] == "string" for spec in input_specs(built)):
        return
    inputs = [made_up(model, generator, *spec, batch=4) for spec in input_specs(built)]
    structure = getattr(built, "_inputs_struct", None)
    if isinstance(structure, dict):
        inputs = dict(zip(sorted(structure), inputs, strict=True))
    momenta = [each.momentum for each in normalizations]
    for each in normalizations:
        each.momentum = 0.1
    for _ in range(3):
        built(inputs if len(inputs) > 1 else inputs[0], training=True)
    for each, momentum in zip(normalizations, momenta, strict=True):
        each.momentum = momentum


def _unsettle(weight: Any, generator: np.random.Generator) -> None:
    value = np.asarray(weight.numpy()) if hasattr(weight, "numpy") else None
    if value is None or value.dtype.kind != "f" or value.size < 2 or np.ptp(value):  # noqa: PLR2004
        return
    noise = generator.normal(0, 0.1, value.shape)
    name = getattr(weight, "path", "") or getattr(weight, "name", "")
    weight.assign((value + (abs(noise) if "variance" in name else noise)).astype(value.dtype))
