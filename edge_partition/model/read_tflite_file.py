"""Read a ``.tflite`` file without TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edge_partition.facts.find_facts import StatedFacts
from edge_partition.facts.read_labels import read_labels
from edge_partition.model.reader import ReadTflite
from edge_partition.model.source_errors import ModelArgumentError
from edge_partition.tflite.file_tables import InvalidModelError, map_file
from edge_partition.tflite.fix_shapes import fix_shapes
from edge_partition.tflite.read_tflite import TfliteModel, read_tflite
from edge_partition.tflite.signatures import choose_signature
from edge_partition.tflite.tflite_metadata import read_metadata

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edge_partition.model.reader import ModelRequest
    from edge_partition.tflite.file_tables import Bytes


def read_tflite_file(request: ModelRequest) -> ReadTflite:
    """Read one signature of a ``.tflite`` file, and the file's metadata and labels.

    Raises:
        ModelArgumentError: The file cannot be read, or boards cannot run the model.
    """
    path = Path(request.source)
    try:
        # The file is mapped, because bytes in memory would take the size of the file.
        file = map_file(path)
        chosen = choose_signature(file, request.signature, model_name=path.stem)
        tflite = _read_file(chosen.data, path.stem, request.input_shapes)
        metadata = read_metadata(file, chosen.subgraph)
    except OSError as error:
        raise ModelArgumentError(
            f"{path} can't be read: {error.strerror or error}; expected a .tflite file."
        ) from None
    except InvalidModelError as error:
        raise ModelArgumentError(f"{path}: {error}") from None
    stated = StatedFacts(labels=read_labels(path), metadata=metadata, file=path, notes=chosen.notes)
    return ReadTflite(tflite, path.stem, stated)


def _read_file(
    data: Bytes, name: str, input_shapes: Mapping[str, Sequence[int]] | None
) -> TfliteModel:
    tflite = read_tflite(fix_shapes(data, name=name, input_shapes=input_shapes), name=name)
    flex = sorted(kind for kind in tflite.custom_operators if kind.startswith("Flex"))
    if flex:
        raise InvalidModelError(
            f"{name} has operators that only TensorFlow can run ({', '.join(flex)}), but boards "
            "have no TensorFlow. Convert the model with TFLite's builtin operators only."
        )
    return tflite
