"""Valid inputs for a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from people_models.spec import PeopleModel


def input_specs(built: Any) -> list[tuple[str, str, list[int | None]]]:
    """Return the name, dtype and shape of a Keras model's inputs, of Keras 3 or Keras 2."""
    return [
        (
            str(tensor.name).partition(":")[0],
            str(getattr(tensor.dtype, "name", tensor.dtype)),
            [None, *tensor.shape[1:]],
        )
        for tensor in built.inputs
    ]


def made_up(
    model: PeopleModel,
    generator: np.random.Generator,
    name: str,
    dtype: str,
    shape: list[int | None],
    *,
    batch: int = 1,
) -> Any:
    """Return an array for one input, with the collection's sizes for open dimensions."""
    given = model.shapes.get(name, model.shapes.get(""))
    if None in shape[1:] and given is not None:
        shape = [shape[0], *given]
    sizes = [shape[0] or batch, *(size or 1 for size in shape[1:])]
    if "mask" in name:
        return np.ones(sizes, dtype)
    if np.dtype(dtype).kind in "iu":
        top = model.ids.get(name, model.ids.get(""))
        bounds = np.iinfo(dtype)
        low, high = (0, top) if top else (bounds.min, bounds.max)
        return generator.integers(low, high, sizes, dtype="int64").astype(dtype)
    if model.low is None:
        return generator.normal(size=sizes).astype(dtype)
    return generator.uniform(model.low, model.high, sizes).astype(dtype)
