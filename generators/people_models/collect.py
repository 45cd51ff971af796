"""The list of all models, and the function that builds one of them."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from people_models import (  # noqa: F401 -- each module adds its models
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

#: The last headings of the table; the other headings come before, in the order of the modules.
_LAST = ("KerasHub", "Keras 2", "Python packages", "Files of packages")


def models() -> list[PeopleModel]:
    """Return every model, in the order of the table."""
    first = "Sequential"
    ranks = {first: -1, **{kind: rank for rank, kind in enumerate(_LAST, 1)}}
    return sorted(COLLECTION.values(), key=lambda model: ranks.get(model.kind, 0))


def build(name: str) -> Any:
    """Build a model with equal weights in every process and no constant weight.

    Constant weights, such as biases of 0 or scales of 1, would hide that a layer was left out.
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
    """Fit the batch norms to inputs: with initial statistics, deep models give equal answers."""
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
