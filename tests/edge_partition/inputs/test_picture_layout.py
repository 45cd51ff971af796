from __future__ import annotations

import numpy as np
import pytest

from edge_core.contract.manifest import TensorSpec
from edge_partition.inputs.describe_pixels import parse_pixels
from edge_partition.inputs.picture_layout import PictureLayout, picture_layout
from edge_partition.inputs.pixels import PixelsError, apply_pixels


@pytest.mark.parametrize(
    ("shape", "dtype", "layout"),
    [
        ((1, 32, 48, 3), "float32", PictureLayout(1, 32, 48, 3)),
        ((8, 32, 48, 3), "int8", PictureLayout(8, 32, 48, 3)),
        ((1, 28, 28, 1), "uint8", PictureLayout(1, 28, 28, 1)),
        ((1, 28, 28, 4), "float16", PictureLayout(1, 28, 28, 4)),
        ((1, 3, 32, 48), "float32", PictureLayout(1, 32, 48, 3, channels_first=True)),
        ((1, 1, 28, 28), "float32", PictureLayout(1, 28, 28, 1, channels_first=True)),
        ((1, 3, 32, 3), "float32", PictureLayout(1, 3, 32, 3)),
        ((28, 28), "float32", PictureLayout(0, 28, 28, 0)),
        ((1, 28, 28), "float32", PictureLayout(1, 28, 28, 0)),
        ((16, 28, 28), "float32", PictureLayout(16, 28, 28, 0)),
        ((224, 192, 3), "float32", PictureLayout(0, 224, 192, 3)),
        ((28, 28, 1), "float32", PictureLayout(0, 28, 28, 1)),
        ((3, 224, 192), "float32", PictureLayout(0, 224, 192, 3, channels_first=True)),
    ],
)
def test_layouts_of_a_picture_in_a_tensor(
    shape: tuple[int, ...], dtype: str, layout: PictureLayout
) -> None:
    assert picture_layout(TensorSpec("x", dtype, shape)) == layout


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((1, 7, 7, 1024), "float32"),
        ((1, 128, 3), "float32"),
        ((1, 50, 13), "float32"),
        ((128, 64), "float32"),
        ((4, 4), "float32"),
        ((1, 1000), "float32"),
        ((1, 32, 32, 3), "bool"),
        ((64, 64), "int64"),
        ((1, 1, 1, 3), "float32"),
        ((1, 8, 32, 32, 3), "float32"),
        ((), "float32"),
    ],
)
def test_sequences_ids_and_features_are_not_pictures(shape: tuple[int, ...], dtype: str) -> None:
    assert picture_layout(TensorSpec("x", dtype, shape)) is None
    with pytest.raises(PixelsError, match=r"Input x takes no picture"):
        apply_pixels(np.zeros((16, 16, 3), np.uint8), TensorSpec("x", dtype, shape))


def test_a_matrix_with_pixels_is_a_picture_of_any_size() -> None:
    spec = TensorSpec("x", "float32", (1, 32, 100), pixels=parse_pixels("0..1,gray"))
    assert picture_layout(spec) == PictureLayout(1, 32, 100, 0)
