"""Read the calibration inputs for the int8 conversion from files."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edge_partition.facts.find_facts import StatedFacts, input_pixels
from edge_partition.inputs.batches import batches
from edge_partition.inputs.load_inputs import expand_inputs, load_samples
from edge_partition.model.model_kinds import model_kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from edge_partition.facts.model_facts import PictureOptions


def read_calibration(
    path: Path,
    source: str,
    picture: PictureOptions,
    on_note: Callable[[str], None] | None = None,
) -> Callable[[Any], Iterable[list[Any]]]:
    """Return a function that takes a Keras model and yields calibration inputs for the model.

    Each yielded list has one array per input, with the batch, in the order of the model's inputs.
    Pictures are prepared in the same way as for a request.

    Args:
        path: A folder of pictures, ``.npy``, ``.npz``, ``.wav`` or ``.csv`` files, or one file.
        source: The MODEL argument.
        picture: The user's options for the model's pictures.
        on_note: Function that is called with each note for the user about a file.
    """

    def read(model: Any) -> Iterator[list[Any]]:
        from edge_partition.model.keras_model import input_specs  # noqa: PLC0415 -- TensorFlow

        specs = input_specs(model)
        application = str(model.name) if model_kind(source).keeps_model_name else ""
        pixels = input_pixels(specs, StatedFacts(application=application), picture)
        specs = tuple(replace(spec, pixels=pixels.get(spec.name)) for spec in specs)
        samples = (
            sample
            for file in expand_inputs([path])
            for sample in load_samples(file, specs, on_note=on_note)
        )
        for arrays, _ in batches(samples, specs):
            yield [arrays[spec.name] for spec in specs]

    return read
