"""Write ``docs/operations.md``: test results of every operation behind ``keras.ops``.

Each operation is in its own small model, with layers before it and one layer after it. The script
wraps, saves, loads, converts, cuts and runs this model. A recipe below calls the operation; an
operation without a recipe is called with its number of tensors.

    python generators/generate_operations.py [--only NAME ...] [--jobs N]

The script keeps results in the temporary folder until one of their sources changes.
"""

# ruff: noqa: ERA001 -- comments are the recipes' headings
from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import importlib
import inspect
import io
import itertools
import json
import logging
import math
import multiprocessing
import os
import pkgutil
import queue
import re
import tempfile
import threading
import warnings
import zlib
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from edge_partition.model import keras_setup  # noqa: F401 -- before Keras

# isort: split
import keras
import numpy as np
from keras import layers, ops, tree

from edge_core.contract.manifest import TensorSpec
from edge_core.errors import EdgePartitionError
from edge_core.runtime.stage_interpreter import StageInterpreter
from edge_partition.model.convert_tflite import ConversionError, convert_tflite
from edge_partition.model.operation_layer import OperationLayer
from edge_partition.model.wrap_operations import wrap_operations
from edge_partition.tflite.file_tables import InvalidModelError
from edge_partition.tflite.find_layers import AmbiguousLayerError, UnknownLayerError
from edge_partition.tflite.read_tflite import read_tflite
from edge_partition.tflite.slice_model import slice_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from multiprocessing.connection import Connection

    from edge_partition.tflite.read_tflite import TfliteModel

DOCUMENT = Path(__file__).parents[1] / "docs" / "operations.md"
TIMEOUT_S = 180
#: Largest accepted difference between Keras's and TFLite's float32 outputs, relative to the largest
#: value.
TOLERANCE = 1e-3


class Given:
    """Makes the tensors with which a recipe calls its operation; each tensor has its own layers.

    Attributes:
        image: The model's input, float32 ``(1, 16)``.
    """

    def __init__(self) -> None:
        self.image = keras.Input(batch_shape=(1, 16), name="image")
        self._numbers = itertools.count(1)

    def real(self, *shape: int, low: float = -1.0, high: float = 1.0) -> keras.KerasTensor:
        """Return float32 ``(1, *shape)`` between ``low`` and ``high``."""
        number = next(self._numbers)
        y = layers.Dense(math.prod(shape), activation="sigmoid", name=f"before_{number}")(
            self.image
        )
        y = layers.Rescaling(high - low, low, name=f"range_{number}")(y)
        return layers.Reshape(shape, name=f"shape_{number}")(y)

    def bare(self, *shape: int, low: float = -1.0, high: float = 1.0) -> keras.KerasTensor:
        """Return float32 ``shape``, which has no batch dimension."""
        return ops.reshape(self.real(math.prod(shape), low=low, high=high), shape)

    def whole(
        self, *shape: int, low: int = 0, high: int = 5, dtype: str = "int32"
    ) -> keras.KerasTensor:
        """Return integers ``(1, *shape)`` in ``[low, high)``."""
        return ops.cast(ops.floor(self.real(*shape, low=low, high=high)), dtype)

    def truth(self, *shape: int) -> keras.KerasTensor:
        """Return bool ``(1, *shape)``."""
        return ops.greater(self.real(*shape), 0.0)

    def complex(self, *shape: int) -> keras.KerasTensor:
        """Return complex64 ``(1, *shape)``."""
        return ops.polar(self.real(*shape, low=0.5), self.real(*shape, low=-3, high=3))

    def definite(self, size: int = 3) -> keras.KerasTensor:
        """Return a symmetric positive definite matrix, float32 ``(1, size, size)``."""
        x = self.real(size, size)
        return ops.matmul(x, ops.transpose(x, (0, 2, 1))) + 0.5 * np.eye(size, dtype="float32")


# Registered, because Keras saves a registered function by its name.


@keras.saving.register_keras_serializable("operations")
def ones() -> Any:
    """Return ones."""
    return ops.ones((2, 3))


@keras.saving.register_keras_serializable("operations")
def zeros() -> Any:
    """Return zeros."""
    return ops.zeros((2, 3))


@keras.saving.register_keras_serializable("operations")
def halve_each(_: Any, x: Any) -> Any:
    """Return ``x * 0.5 + 1``, one step of a loop."""
    return x * 0.5 + 1.0


@keras.saving.register_keras_serializable("operations")
def accumulate(carry: Any, x: Any) -> Any:
    """Return a running sum and its square."""
    return carry + x, ops.square(carry + x)


@keras.saving.register_keras_serializable("operations")
def is_small(x: Any) -> Any:
    """Return whether the loop continues."""
    return ops.max(x) < 5.0  # noqa: PLR2004


@keras.saving.register_keras_serializable("operations")
def double(x: Any) -> Any:
    """Return ``2 * x``."""
    return x * 2.0


def _same(size: int) -> np.ndarray:
    """Return ``size`` values, equal in every run."""
    return np.linspace(-1, 1, size, dtype="float32")


def _kernel(*shape: int) -> np.ndarray:
    return np.sin(np.arange(math.prod(shape), dtype="float32")).reshape(shape).astype("float32")


def _function(t: Given) -> Any:
    x = keras.Input(batch_shape=(1, 4, 6))
    return keras.Function(x, ops.sin(x) + 1.0)(t.real(4, 6))


_MATRIX = np.linspace(-1, 1, 24, dtype="float32").reshape(1, 4, 6)

#: The calls of operations. Without a recipe, each tensor argument is float32 ``(1, 4, 6)`` between
#: -1 and 1.
RECIPES: dict[str, Callable[[Given], Any]] = {
    # core
    "AssociativeScan": lambda t: ops.associative_scan(ops.add, t.real(5, 3), axis=1),
    "Cast": lambda t: ops.cast(t.real(4, 6, low=-9, high=9), "int32"),
    "Cond": lambda t: ops.cond(ops.reshape(t.truth(1), ()), ones, zeros),
    "ForiLoop": lambda t: ops.fori_loop(0, 3, halve_each, t.real(4, 6)),
    "Map": lambda t: ops.map(double, t.bare(4, 6)),
    "SaturateCast": lambda t: ops.saturate_cast(t.real(4, 6, low=-300, high=300), "int8"),
    "Scan": lambda t: ops.scan(accumulate, t.bare(6), t.bare(4, 6)),
    "Scatter": lambda t: ops.scatter(t.whole(3, 1, low=0, high=8), t.real(3), (8,)),
    "ScatterUpdate": lambda t: ops.scatter_update(t.bare(8), np.array([[1], [3], [6]]), t.bare(3)),
    "Slice": lambda t: ops.slice(t.real(4, 6), (0, 1, 2), (1, 2, 3)),
    "SliceUpdate": lambda t: ops.slice_update(t.real(4, 6), (0, 1, 2), t.real(2, 3)),
    "Switch": lambda t: ops.switch(
        ops.reshape(t.whole(1, low=0, high=2), ()), [double, ops.square], t.real(4, 6)
    ),
    "Unstack": lambda t: ops.unstack(t.real(4, 6), axis=1),
    "VectorizedMap": lambda t: ops.vectorized_map(double, t.bare(4, 6)),
    "WhileLoop": lambda t: ops.while_loop(is_small, double, t.real(4, 6, low=0.5, high=2)),
    "Rearrange": lambda t: ops.rearrange(t.real(4, 6), "b h (w c) -> b c (h w)", c=2),
    "Function": _function,
    # image
    "AffineTransform": lambda t: ops.image.affine_transform(t.real(6, 6, 2), t.real(8)),
    "CropImages": lambda t: ops.image.crop_images(
        t.real(6, 6, 2), top_cropping=1, left_cropping=2, target_height=4, target_width=3
    ),
    "ElasticTransform": lambda t: ops.image.elastic_transform(t.real(6, 6, 2), seed=1),
    "ExtractPatches": lambda t: ops.image.extract_patches(t.real(6, 6, 2), 3),
    "GaussianBlur": lambda t: ops.image.gaussian_blur(t.real(6, 6, 2)),
    "HSVToRGB": lambda t: ops.image.hsv_to_rgb(t.real(6, 6, 3, low=0)),
    "MapCoordinates": lambda t: ops.image.map_coordinates(
        t.bare(6, 6), t.bare(2, 5, low=0, high=5), order=1
    ),
    "PadImages": lambda t: ops.image.pad_images(
        t.real(6, 6, 2), top_padding=1, left_padding=2, target_height=9, target_width=9
    ),
    "PerspectiveTransform": lambda t: ops.image.perspective_transform(
        t.real(6, 6, 2),
        np.array([[[0, 0], [0, 5], [5, 0], [5, 5]]], "float32"),
        t.real(4, 2, low=0, high=1) + np.array([[0, 0], [0, 4], [4, 0], [4, 4]], "float32"),
    ),
    "RGBToGrayscale": lambda t: ops.image.rgb_to_grayscale(t.real(6, 6, 3, low=0)),
    "RGBToHSV": lambda t: ops.image.rgb_to_hsv(t.real(6, 6, 3, low=0)),
    "Resize": lambda t: ops.image.resize(t.real(6, 6, 2), (4, 9)),
    "SSIM": lambda t: ops.image.ssim(t.real(12, 12, 1, low=0), t.real(12, 12, 1, low=0)),
    "ScaleAndTranslate": lambda t: ops.image.scale_and_translate(
        t.real(6, 6, 2),
        (1, 8, 8, 2),
        np.array([1.5, 1.2], "float32"),
        np.array([0.5, -0.5], "float32"),
        spatial_dims=(1, 2),
        method="linear",
    ),
    "SobelEdges": lambda t: ops.image.sobel_edges(t.real(6, 6, 2)),
    # linalg
    **{
        name: lambda t, name=name: _make(name)(t.definite())
        for name in (
            "Cholesky",
            "CholeskyInverse",
            "Det",
            "Eig",
            "Eigh",
            "Inv",
            "Logdet",
            "MatrixRank",
            "Slogdet",
        )
    },
    "JVP": lambda t: ops.jvp(ops.square, (t.real(4, 6),), (t.real(4, 6),)),
    "Lstsq": lambda t: ops.lstsq(t.bare(5, 3), t.bare(5, 2)),
    "LuFactor": lambda t: ops.lu_factor(t.bare(3, 3)),
    "Norm": lambda t: ops.norm(t.real(4, 6), axis=-1),
    "Solve": lambda t: ops.solve(t.definite(), t.real(3, 2)),
    "SolveTriangular": lambda t: ops.solve_triangular(t.definite(), t.real(3, 2), lower=True),
    # math
    "CDist": lambda t: ops.cdist(t.bare(4, 3), t.bare(5, 3)),
    "ExtractSequences": lambda t: ops.extract_sequences(t.real(16), 4, 2),
    "FFT": lambda t: ops.fft((t.real(8), t.real(8))),
    "FFT2": lambda t: ops.fft2((t.real(4, 8), t.real(4, 8))),
    "IFFT2": lambda t: ops.ifft2((t.real(4, 8), t.real(4, 8))),
    "IRFFT": lambda t: ops.irfft((t.real(5), t.real(5))),
    "RFFT": lambda t: ops.rfft(t.real(8)),
    "STFT": lambda t: ops.stft(t.real(32), 8, 4, 8),
    "ISTFT": lambda t: ops.istft((t.real(9, 5), t.real(9, 5)), 8, 4, 8),
    "InTopK": lambda t: ops.in_top_k(ops.reshape(t.whole(6), (6,)), t.bare(6, 5), k=2),
    "Rsqrt": lambda t: ops.rsqrt(t.real(4, 6, low=0.1)),
    "SegmentMax": lambda t: ops.segment_max(t.bare(6, 2), np.array([0, 0, 1, 1, 1, 2]), 3),
    "SegmentMin": lambda t: ops.segment_min(t.bare(6, 2), np.array([0, 0, 1, 1, 1, 2]), 3),
    "SegmentProd": lambda t: ops.segment_prod(t.bare(6, 2), np.array([0, 0, 1, 1, 1, 2]), 3),
    "SegmentSum": lambda t: ops.segment_sum(t.bare(6, 2), np.array([0, 0, 1, 1, 1, 2]), 3),
    "TopK": lambda t: ops.top_k(t.real(4, 6), 2),
    "ViewAsComplex": lambda t: ops.view_as_complex(ops.cast(t.real(4, 2), "complex64")),
    "ViewAsReal": lambda t: ops.view_as_real(t.complex(4)),
    # nn
    # Keras infers a shape of one dimension too many for these two.
    "AdaptiveAveragePool": lambda t: ops.sum(
        ops.adaptive_average_pool(t.real(6, 6, 2), (3, 3), data_format="channels_last")
    ),
    "AdaptiveMaxPool": lambda t: ops.sum(
        ops.adaptive_max_pool(t.real(6, 6, 2), (3, 3), data_format="channels_last")
    ),
    "AveragePool": lambda t: ops.average_pool(t.real(6, 6, 2), 2),
    "BatchNorm": lambda t: ops.batch_normalization(
        t.real(4, 6), _same(6), _same(6) ** 2 + 0.5, axis=-1, offset=_same(6), scale=_same(6)
    ),
    "BinaryCrossentropy": lambda t: ops.binary_crossentropy(
        t.real(4, 6, low=0), t.real(4, 6, low=0.1, high=0.9)
    ),
    "CTCDecode": lambda t: ops.ctc_decode(t.real(6, 4), np.array([6])),
    "CTCLoss": lambda t: ops.ctc_loss(
        t.whole(3, low=1, high=4), t.real(8, 4), np.array([3]), np.array([8])
    ),
    "CategoricalCrossentropy": lambda t: ops.categorical_crossentropy(
        t.real(4, 6, low=0), t.real(4, 6, low=0.1, high=0.9)
    ),
    "Conv": lambda t: ops.conv(t.real(6, 6, 2), _kernel(3, 3, 2, 4)),
    "ConvTranspose": lambda t: ops.conv_transpose(t.real(6, 6, 2), _kernel(3, 3, 4, 2), 2, "same"),
    "DepthToSpace": lambda t: ops.depth_to_space(t.real(4, 4, 8), 2),
    "DepthwiseConv": lambda t: ops.depthwise_conv(t.real(6, 6, 2), _kernel(3, 3, 2, 2)),
    "DotProductAttention": lambda t: ops.dot_product_attention(
        t.real(5, 2, 4), t.real(5, 2, 4), t.real(5, 2, 4)
    ),
    "Fold": lambda t: ops.fold(t.real(8, 9), (6, 6), 2, stride=2),
    "LayerNorm": lambda t: ops.layer_normalization(
        t.real(4, 6), gamma=_same(6) + 2, beta=_same(6), axis=-1
    ),
    "MaxPool": lambda t: ops.max_pool(t.real(6, 6, 2), 2),
    "Moments": lambda t: ops.moments(t.real(4, 6), (1,)),
    "MultiHot": lambda t: ops.multi_hot(t.whole(4), 5),
    "OneHot": lambda t: ops.one_hot(t.whole(4), 5),
    "PSNR": lambda t: ops.psnr(t.real(4, 6), t.real(4, 6), 2.0),
    "RMSNorm": lambda t: ops.rms_normalization(t.real(4, 6), scale=_same(6) + 2, axis=-1),
    "SeparableConv": lambda t: ops.separable_conv(
        t.real(6, 6, 2), _kernel(3, 3, 2, 2), _kernel(1, 1, 4, 3)
    ),
    "SpaceToDepth": lambda t: ops.space_to_depth(t.real(4, 4, 2), 2),
    "SparseCategoricalCrossentropy": lambda t: ops.sparse_categorical_crossentropy(
        t.whole(4, low=0, high=6), t.real(4, 6, low=0.1, high=0.9)
    ),
    "Threshold": lambda t: ops.threshold(t.real(4, 6), 0.2, -3.0),
    "Unfold": lambda t: ops.unfold(t.real(2, 6, 6), 2, stride=2),
    # numpy: domains
    **{
        name: lambda t, name=name: _make(name)(t.real(4, 6, low=0.1, high=2))
        for name in ("Log", "Log10", "Log1p", "Log2", "Sqrt", "Reciprocal")
    },
    "Arccosh": lambda t: ops.arccosh(t.real(4, 6, low=1.1, high=4)),
    "Arcsin": lambda t: ops.arcsin(t.real(4, 6, low=-0.9, high=0.9)),
    "Arccos": lambda t: ops.arccos(t.real(4, 6, low=-0.9, high=0.9)),
    "Arctanh": lambda t: ops.arctanh(t.real(4, 6, low=-0.9, high=0.9)),
    "Erfinv": lambda t: ops.erfinv(t.real(4, 6, low=-0.9, high=0.9)),
    "Power": lambda t: ops.power(t.real(4, 6, low=0.1, high=2), t.real(4, 6)),
    **{
        name: lambda t, name=name: _make(name)(t.real(4, 6, low=-9, high=9))
        for name in ("Ceil", "Floor", "Round", "Trunc", "HardSigmoid", "HardSilu", "Relu6")
    },
    **{
        name: lambda t, name=name: _make(name)(t.real(4, 6), t.real(4, 6, low=0.3, high=2))
        for name in (
            "Divide",
            "DivideNoNan",
            "TrueDivide",
            "FloorDivide",
            "Mod",
            "Fmod",
        )
    },
    # numpy: integers and truth values
    **{
        name: lambda t, name=name: _make(name)(t.whole(4, 6, high=16), t.whole(4, 6, high=4))
        for name in (
            "BitwiseAnd",
            "BitwiseOr",
            "BitwiseXor",
            "BitwiseLeftShift",
            "BitwiseRightShift",
            "LeftShift",
            "RightShift",
        )
    },
    "BitwiseInvert": lambda t: ops.bitwise_invert(t.whole(4, 6)),
    "BitwiseNot": lambda t: ops.bitwise_not(t.whole(4, 6)),
    **{
        name: lambda t, name=name: _make(name)(t.whole(4, 6, low=1, high=20), t.whole(4, 6, low=1))
        for name in ("Gcd", "Lcm")
    },
    **{
        name: lambda t, name=name: _make(name)(t.whole(4, 6, high=3), t.whole(4, 6, high=3))
        for name in ("Equal", "NotEqual", "Isclose")
    },
    "IsIn": lambda t: ops.isin(t.whole(4, 6), np.array([1, 3], "int32")),
    "AllClose": lambda t: _make("AllClose", rtol=0.0, atol=0.7)(t.real(1), t.real(1)),
    "Ldexp": lambda t: ops.ldexp(t.real(4, 6), t.whole(4, 6)),
    **{
        name: lambda t, name=name: _make(name)(t.truth(4, 6), t.truth(4, 6))
        for name in ("LogicalAnd", "LogicalOr", "LogicalXor")
    },
    "LogicalNot": lambda t: ops.logical_not(t.truth(4, 6)),
    "All": lambda t: ops.all(t.truth(6, 2), axis=-1),
    "Any": lambda t: ops.any(t.truth(6, 2), axis=-1),
    "CountNonzero": lambda t: ops.count_nonzero(t.whole(4, 6, high=2), axis=-1),
    "Nonzero": lambda t: ops.nonzero(t.whole(4, 6, high=2)),
    "Unique": lambda t: ops.unique(t.whole(6)),
    "Bincount": lambda t: ops.bincount(t.whole(8), minlength=5),
    "UnravelIndex": lambda t: ops.unravel_index(t.whole(6, low=0, high=12), (3, 4)),
    "Digitize": lambda t: ops.digitize(t.real(4, 6), np.array([-0.5, 0.0, 0.5], "float32")),
    "SearchSorted": lambda t: ops.searchsorted(_same(5), t.bare(6)),
    "Heaviside": lambda t: ops.heaviside(t.real(4, 6), np.float32(0.5)),
    "Histogram": lambda t: ops.histogram(t.bare(24), 5, (-1.0, 1.0)),
    # numpy: not a number and infinities
    **{
        name: lambda t, name=name: _make(name)(t.real(4, 6) / t.whole(4, 6, low=0, high=2))
        for name in ("Isfinite", "Isinf", "Isneginf", "Isposinf")
    },
    "NanToNum": lambda t: ops.nan_to_num(
        _with_gaps(t) / t.whole(4, 6, low=0, high=2), nan=0.5, posinf=2.0, neginf=-2.0
    ),
    **{
        name: lambda t, name=name: _make(name)(_with_gaps(t))
        for name in (
            "Isnan",
            "Nancumprod",
            "Nancumsum",
            "Nanmax",
            "Nanmean",
            "Nanmin",
            "Nanprod",
            "Nanstd",
            "Nansum",
            "Nanvar",
            "Nanmedian",
        )
    },
    "Nanargmax": lambda t: ops.nanargmax(_with_gaps(t), axis=-1),
    "Nanargmin": lambda t: ops.nanargmin(_with_gaps(t), axis=-1),
    "Nanpercentile": lambda t: ops.nanpercentile(_with_gaps(t), 30.0),
    "Nanquantile": lambda t: ops.nanquantile(_with_gaps(t), 0.3),
    "Fmax": lambda t: ops.fmax(_with_gaps(t), t.real(4, 6)),
    "Fmin": lambda t: ops.fmin(_with_gaps(t), t.real(4, 6)),
    # numpy: complex
    **{
        name: lambda t, name=name: _make(name)(t.complex(4, 3))
        for name in ("Angle", "Imag", "Real")
    },
    # Keras infers a real dtype for these three complex results.
    **{
        name: lambda t, name=name: ops.view_as_real(_make(name)(t.complex(4, 3)))
        for name in ("Conj", "Conjugate")
    },
    "Polar": lambda t: ops.view_as_real(t.complex(4, 3)),
    "Isreal": lambda t: ops.isreal(
        ops.cast(t.real(4), "complex64") * ops.cast(ops.sqrt(t.real(4)), "complex64")
    ),
    # numpy: shapes
    "Append": lambda t: ops.append(t.real(4, 6), t.real(4, 2), axis=-1),
    "Arange": lambda t: ops.arange(t.bare(), dtype="float32"),
    "Argpartition": lambda t: ops.argpartition(t.bare(6), 2),
    "ArraySplit": lambda t: ops.array_split(t.real(4, 7), 3, axis=-1),
    "Average": lambda t: ops.average(t.real(4, 6), axis=-1, weights=_same(6) ** 2),
    "BroadcastTo": lambda t: ops.broadcast_to(t.real(4, 6), (3, 4, 6)),
    "Clip": lambda t: ops.clip(t.real(4, 6), -0.5, 0.5),
    "Concatenate": lambda t: ops.concatenate([t.real(4, 6), t.real(4, 2)], axis=-1),
    "Corrcoef": lambda t: ops.corrcoef(t.bare(4, 4)),
    "Correlate": lambda t: ops.correlate(t.bare(8), t.bare(3)),
    "Cross": lambda t: ops.cross(t.real(4, 3), t.real(4, 3)),
    "Diag": lambda t: ops.diag(t.bare(4)),
    "Diagflat": lambda t: ops.diagflat(t.bare(4)),
    "Dot": lambda t: ops.dot(t.bare(4, 6), t.bare(6, 3)),
    "Dsplit": lambda t: ops.dsplit(t.real(4, 6), 2),
    "Dstack": lambda t: ops.dstack([t.real(4, 6), t.real(4, 6)]),
    "Einsum": lambda t: ops.einsum("bij,bkj->bik", t.real(4, 6), t.real(3, 6)),
    "ExpandDims": lambda t: ops.expand_dims(t.real(4, 6), 1),
    "Full": lambda t: ops.full((2, 3), t.bare()),
    "FullLike": lambda t: ops.full_like(t.real(4, 6), 3.0),
    "Geomspace": lambda t: ops.geomspace(t.real(4, low=1, high=2), t.real(4, low=3, high=4), 5),
    "GetItem": lambda t: t.real(4, 6)[:, 1:, ::2],
    "Hsplit": lambda t: ops.hsplit(t.real(4, 6), 2),
    "Hstack": lambda t: ops.hstack([t.real(4, 6), t.real(4, 6)]),
    "Kron": lambda t: ops.kron(t.bare(2, 3), t.bare(3, 2)),
    "Linspace": lambda t: ops.linspace(t.real(4), t.real(4), 5),
    "Logspace": lambda t: ops.logspace(t.real(4), t.real(4), 5),
    "Matmul": lambda t: ops.matmul(t.real(4, 6), t.real(6, 3)),
    "Max": lambda t: ops.max(t.real(4, 6), axis=-1),
    "Min": lambda t: ops.min(t.real(4, 6), axis=-1),
    "Meshgrid": lambda t: ops.meshgrid(t.bare(3), t.bare(4)),
    "Moveaxis": lambda t: ops.moveaxis(t.real(4, 6), 1, 2),
    # Its symbolic shape is (3,) and its real one is ().
    "Ndim": lambda t: _make("Ndim")(t.real(4, 3)) + t.real(4, 3),
    "Outer": lambda t: ops.outer(t.bare(4), t.bare(6)),
    "Pad": lambda t: ops.pad(t.real(4, 6), ((0, 0), (1, 2), (0, 1)), constant_values=2.0),
    "Percentile": lambda t: ops.percentile(t.real(4, 6), 30.0, axis=-1),
    "Quantile": lambda t: ops.quantile(t.real(4, 6), 0.3, axis=-1),
    "Repeat": lambda t: ops.repeat(t.real(4, 6), 2, axis=1),
    "Reshape": lambda t: ops.reshape(t.real(4, 6), (1, 6, 4)),
    "Roll": lambda t: ops.roll(t.real(4, 6), 2, axis=1),
    "Rot90": lambda t: ops.rot90(t.real(4, 6), axes=(1, 2)),
    "Select": lambda t: ops.select(
        [t.truth(4, 6), t.truth(4, 6)], [t.real(4, 6), t.real(4, 6)], 0.25
    ),
    "Split": lambda t: ops.split(t.real(4, 6), 3, axis=-1),
    "Squeeze": lambda t: ops.squeeze(t.real(4, 1, 6), 2),
    "Stack": lambda t: ops.stack([t.real(4, 6), t.real(4, 6)], axis=1),
    "Swapaxes": lambda t: ops.swapaxes(t.real(4, 6), 1, 2),
    "Take": lambda t: ops.take(t.real(4, 6), t.whole(3, high=4), axis=1),
    "TakeAlongAxis": lambda t: ops.take_along_axis(t.real(4, 6), t.whole(4, 2, high=6), axis=-1),
    "Tensordot": lambda t: ops.tensordot(t.bare(4, 6), t.bare(6, 3), axes=1),
    "Tile": lambda t: ops.tile(t.real(4, 6), (1, 2, 1)),
    "Transpose": lambda t: ops.transpose(t.real(4, 6), (0, 2, 1)),
    "Vander": lambda t: ops.vander(t.bare(4), 3),
    "Vdot": lambda t: ops.vdot(t.bare(6), t.bare(6)),
    "View": lambda t: ops.view(t.real(4, 6), "int32"),
    "Vsplit": lambda t: ops.vsplit(t.bare(4, 6), 2),
    "Vstack": lambda t: ops.vstack([t.real(4, 6), t.real(4, 6)]),
    "Where": lambda t: ops.where(t.truth(4, 6), t.real(4, 6), t.real(4, 6)),
}


def _with_gaps(t: Given) -> keras.KerasTensor:
    """Return float32 ``(1, 4, 6)`` with not-a-numbers in it."""
    x = t.real(4, 6)
    return ops.where(ops.less(x, -0.6), np.float32("nan"), x)


# The operations.


@functools.cache
def operation_classes() -> dict[str, type[keras.Operation]]:
    """Return all operation classes of Keras's ops by name, without ``Operation`` itself."""
    package = importlib.import_module("keras.src.ops")
    modules = [
        importlib.import_module(module.name)
        for module in pkgutil.walk_packages(package.__path__, "keras.src.ops.")
        if not module.name.endswith("_test")
    ]
    classes = {
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, keras.Operation)
        and value is not keras.Operation
        and value.__module__.startswith("keras.src.ops.")
    }
    ordered = sorted(classes, key=lambda kind: (kind.__module__, kind.__name__))
    return {kind.__name__: kind for kind in ordered}


@functools.cache
def exported_functions() -> dict[str, tuple[str, ...]]:
    """Return for each operation class the functions of ``keras.ops`` that create it."""
    made: dict[str, list[str]] = {}
    for path, function in _walk_functions(keras.ops, ""):
        for name in set(re.findall(r"(?<![\w.])([A-Z]\w*)\(", inspect.getsource(function))):
            if name in operation_classes():
                made.setdefault(name, []).append(path)
    return {
        name: tuple({path.rpartition(".")[2]: path for path in sorted(paths)}.values())
        for name, paths in made.items()
    }


def _walk_functions(namespace: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in sorted(vars(namespace).items()):
        if inspect.ismodule(value) and value.__name__.startswith("keras."):
            yield from _walk_functions(value, f"{prefix}{name}.")
        elif inspect.isfunction(value) and not name.startswith("_"):
            yield prefix + name, value


def _make(name: str, **options: Any) -> keras.Operation:
    return operation_classes()[name](**options)


# The test of one operation.


@dataclass
class Outcome:
    """One row of the table.

    Attributes:
        name: The operation class.
        wrapped: Whether model, wrapped model and loaded model gave equal bits.
        converted: Whether the model converted to TFLite's builtins with Keras's output.
        cut: Whether both parts gave the whole's bits, at each possible cut.
        why: A key of ``_MEANINGS``: the reason of the failed test; empty if no test failed.
        remark: The reason in a sentence, and further remarks.
    """

    name: str
    wrapped: bool = False
    converted: bool = False
    cut: bool = False
    why: str = ""
    remark: str = ""


#: Inputs, and Keras's outputs for them.
Cases: TypeAlias = "list[tuple[np.ndarray, list[np.ndarray]]]"


class _StopError(Exception):
    """A test failed: ``args`` are ``why`` and ``remark`` of the outcome."""


def examine(name: str) -> Outcome:
    """Test one operation."""
    outcome = Outcome(name)
    remarks: list[str] = []
    try:
        _examine(name, outcome, remarks)
    except _StopError as stop:
        outcome.why = stop.args[0]
        remarks.append(stop.args[1])
    except EdgePartitionError as error:
        outcome.why = "not split"
        remarks.append(_first_line(error))
    outcome.remark = "; ".join(remarks)
    return outcome


def _examine(name: str, outcome: Outcome, remarks: list[str]) -> None:
    model, whole = _build(name)
    _seed(whole)
    inputs = [_example(seed) for seed in range(4)]
    expected = [_run(whole, x) for x in inputs]
    if not _same_bits(expected[0], _run(whole, inputs[0])):
        raise _StopError("random", "equal inputs give different outputs")
    parts = len(expected[0]) - len(model.outputs)
    if all(_same_bits(expected[0][:parts], other[:parts]) for other in expected[1:]):
        remarks.append("the operation's output is equal for all four inputs")

    _check_wrapped(whole, inputs, expected)
    outcome.wrapped = True

    wrapped = wrap_operations(model)
    cases = [(x, y[parts:]) for x, y in zip(inputs, expected, strict=True)]
    _check_converted(outcome, _convert(wrapped), wrapped, cases, remarks)


def _build(name: str) -> tuple[keras.Model, keras.Model]:
    """Return the model to convert, and a model that also has the operation's outputs, first."""
    given = Given()
    kind = operation_classes()[name]
    try:
        if name in RECIPES:
            result = RECIPES[name](given)
        else:
            call = inspect.signature(kind.call).parameters.values()
            count = sum(p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD for p in call)
            result = kind()(*(given.real(4, 6) for _ in range(count - 1)))
    except Exception as error:
        raise _StopError("not in a graph", _first_line(error)) from error
    outputs = [x for x in tree.flatten(result) if isinstance(x, keras.KerasTensor)]
    if not outputs:
        raise _StopError("not in a graph", f"the result is {result!r}, which is no tensor")
    probe = keras.Model(given.image, outputs)
    if not any(type(operation) is kind for operation in probe.operations):
        raise _StopError("not in a graph", f"the call puts no {name} into the graph")
    if any(None in x.shape for x in outputs):
        return probe, keras.Model(given.image, [*outputs, *outputs])
    flat = [ops.reshape(_as_float(x), (1, -1)) for x in outputs]
    # A path around the operation, so that the output always depends on the input.
    around = layers.Dense(3, activation="tanh", name="around")(given.image)
    joined = layers.Concatenate(name="join")([*flat, around])
    after = layers.Dense(4, name="after")(joined)
    model = keras.Model(given.image, after, name="small")
    return model, keras.Model(given.image, [*outputs, after], name="small")


def _as_float(x: keras.KerasTensor) -> keras.KerasTensor:
    if "complex" in x.dtype:
        return ops.concatenate([ops.expand_dims(f(x), -1) for f in (ops.real, ops.imag)], axis=-1)
    return x if x.dtype == "float32" else ops.cast(x, "float32")


def _seed(model: keras.Model) -> None:
    for place, weight in enumerate(model.weights):
        generator = np.random.Generator(np.random.PCG64(zlib.crc32(f"{place}".encode())))
        spread = 2 / math.sqrt(weight.shape[0]) if len(weight.shape) > 1 else 0.5
        weight.assign(generator.normal(0, spread, weight.shape).astype("float32"))


def _example(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(1, 16)).astype("float32")


def _run(model: keras.Model, x: np.ndarray) -> list[np.ndarray]:
    try:
        return [np.asarray(y) for y in tree.flatten(model(x, training=False))]
    except Exception as error:
        raise _StopError("not in a graph", f"Keras cannot run it: {_first_line(error)}") from error


def _same_bits(a: Iterable[np.ndarray], b: Iterable[np.ndarray]) -> bool:
    return all(
        x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()
        for x, y in zip(a, b, strict=True)
    )


def _check_wrapped(
    model: keras.Model, inputs: list[np.ndarray], expected: list[list[np.ndarray]]
) -> None:
    try:
        wrapped = wrap_operations(model)
        bare = [x for x in wrapped.operations if not isinstance(x, layers.Layer)]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.keras"
            wrapped.save(path)
            loaded = keras.saving.load_model(path)
    except Exception as error:
        raise _StopError("not wrapped", f"{type(error).__name__}: {_first_line(error)}") from error
    if bare:
        raise _StopError("not wrapped", f"{bare[0].name} is no layer")
    for what, candidate in (("wrapped", wrapped), ("loaded", loaded)):
        if not all(
            _same_bits(_run(candidate, x), y) for x, y in zip(inputs, expected, strict=True)
        ):
            raise _StopError("not wrapped", f"the {what} model gives different bits")


def _convert(model: keras.Model) -> bytes:
    try:
        return convert_tflite(model)
    except ConversionError as error:
        if error.log_path:
            error.log_path.unlink(missing_ok=True)
        if error.operators:
            reason = f"TFLite has no builtin for {', '.join(error.operators)}"
            raise _StopError("no builtin", reason) from error
        reason = str(error).partition("converted to TFLite: ")[2].partition(" The converter's")[0]
        reason = reason.partition(" in layer ")[0].partition(", and boards")[0]
        why = "shape-dependent" if "depends on the input's values" in reason else "not convertible"
        raise _StopError(why, reason.rstrip(".")) from error


def _check_converted(
    outcome: Outcome, data: bytes, wrapped: keras.Model, cases: Cases, remarks: list[str]
) -> None:
    try:
        tflite = read_tflite(data)
    except InvalidModelError as error:
        outcome.converted = True
        reason = str(error).partition("cannot be split: ")[2].rstrip(".")
        raise _StopError("not split", reason) from error
    whole = _Stage(tflite, 0, len(tflite.graph.operators))
    payloads = [x.tobytes() for x, _ in cases]
    answers = [whole.invoke(payload) for payload in payloads]
    difference = max(
        _difference(np.frombuffer(answer, y.dtype).reshape(y.shape), y)
        for answer, (_, (y,)) in zip(answers, cases, strict=True)
    )
    if not difference <= TOLERANCE:
        outcome.why = "other answer"
        remarks.append("LiteRT's output differs from Keras's")
    outcome.converted = outcome.why != "other answer"
    if len(set(answers)) < len(answers):
        raise _StopError("other answer", "LiteRT's output is equal for different inputs")
    _check_cuts(outcome, tflite, wrapped, (payloads, answers), remarks)


def _difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference relative to the largest value; infinite for NaN."""
    largest = np.abs(found - expected).max() / np.abs(expected).max()
    return float(largest) if np.isfinite(largest) else math.inf


def _check_cuts(
    outcome: Outcome, tflite: TfliteModel, wrapped: keras.Model,
    runs: tuple[list[bytes], list[bytes]], remarks: list[str],
) -> None:  # fmt: skip
    graph = tflite.graph
    behind = _position_behind(outcome.name, wrapped, tflite)
    if behind is None:
        remarks.append("no TFLite operator has the operation's name: the converter fused it")
    elif behind not in graph.cuts:
        remarks.append("not cut right after the operation: a tensor without a fixed shape crosses")
    if not graph.cuts:
        raise _StopError("not split", "the model has no possible cut")
    for position in graph.cuts:
        try:
            first = _Stage(tflite, 0, position)
            last = _Stage(tflite, position, len(graph.operators))
            same = all(
                last.invoke(first.invoke(payload)) == answer
                for payload, answer in zip(*runs, strict=True)
            )
        except EdgePartitionError as error:
            reason = str(error).partition(". ")[0]
            raise _StopError("not split", f"cut before operator {position}: {reason}") from error
        if not same:
            raise _StopError("not split", f"cut before operator {position}: different bits")
    outcome.cut = True


class _Stage:
    """A part of a model, in LiteRT."""

    def __init__(self, tflite: TfliteModel, start: int, stop: int) -> None:
        ends = [
            [TensorSpec(x.name, x.dtype, x.shape) for x in tflite.graph.boundary(position)]
            for position in (start, stop)
        ]
        data = bytes(tflite.data)
        if (start, stop) != (0, len(tflite.graph.operators)):
            data = slice_model(tflite, start, stop)
        self._interpreter = StageInterpreter(data, *ends, num_threads=1)

    def invoke(self, payload: bytes) -> bytes:
        """Return the payload of the outputs for the payload of the inputs."""
        return self._interpreter.invoke(payload)


def _position_behind(name: str, wrapped: keras.Model, tflite: TfliteModel) -> int | None:
    """Return the position right after the operation; None if no TFLite operator has its name."""
    kind = operation_classes()[name]
    found = [
        layer.name
        for layer in wrapped.layers
        if isinstance(layer, OperationLayer) and type(layer.operation) is kind
    ]
    try:
        return int(tflite.graph.position_after(found[0])) if found else None
    except (UnknownLayerError, AmbiguousLayerError):
        return None


def _first_line(error: BaseException) -> str:
    text = str(error).partition("Error encountered:")[2] or str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0].rstrip(".:") if lines else type(error).__name__


# The tests of all operations, in processes that may crash.


def _serve(connection: Connection) -> None:
    warnings.simplefilter("ignore")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    keras.config.disable_traceback_filtering()  # filtering puts a headline first
    while name := connection.recv():
        with contextlib.redirect_stdout(io.StringIO()):
            connection.send(asdict(examine(name)))


class _Worker:
    """A process that tests one operation after another."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def examine(self, name: str) -> Outcome:
        """Return the outcome; ``crash`` and ``timeout`` end the worker."""
        self._connection.send(name)
        try:
            if not self._connection.poll(TIMEOUT_S):
                self._process.kill()
                return Outcome(name, why="timeout", remark=f"no result in {TIMEOUT_S} s")
            return Outcome(**self._connection.recv())
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            return Outcome(name, why="crash", remark=f"TensorFlow ends the process (exit {code})")

    @property
    def alive(self) -> bool:
        """Whether the process can test another operation."""
        return self._process.is_alive()

    def stop(self) -> None:
        """End the process."""
        if self.alive:
            self._connection.send(None)
            self._process.join(10)


def examine_all(names: Iterable[str], jobs: int) -> dict[str, Outcome]:
    """Test operations in parallel; keep the results in the temporary folder."""
    folder = Path(tempfile.gettempdir()) / f"edge-partition-operations-{_sources_key()}"
    folder.mkdir(exist_ok=True)
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    for name in names:
        waiting.put(name)
    outcomes: dict[str, Outcome] = {}

    def work() -> None:
        worker = None
        while True:
            try:
                name = waiting.get_nowait()
            except queue.Empty:
                break
            kept = folder / f"{name}.json"
            if kept.exists():
                outcomes[name] = Outcome(**json.loads(kept.read_text()))
                continue
            if worker is None or not worker.alive:
                worker = _Worker()
            outcomes[name] = worker.examine(name)
            kept.write_text(json.dumps(asdict(outcomes[name])))
            print(outcomes[name], flush=True)  # progress: the whole run takes minutes
        if worker:
            worker.stop()

    threads = [threading.Thread(target=work) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def _sources_key() -> str:
    package = Path(inspect.getfile(wrap_operations)).parents[1]
    sources = [Path(__file__), *sorted(package.rglob("*.py"))]
    versions = f"{keras.__version__}".encode()
    return hashlib.sha256(versions + b"".join(x.read_bytes() for x in sources)).hexdigest()[:12]


def write_document(outcomes: dict[str, Outcome]) -> str:
    """Return the document's text."""
    classes = operation_classes()
    functions = exported_functions()
    rows = [outcomes[name] for name in classes]
    passed = sum(not row.why for row in rows)
    lines = [_HEAD.format(version=keras.__version__, count=len(classes), passed=passed)]
    lines += ["", "| | operations |", "|---|---:|", f"| listed | {len(rows)} |"]
    lines += [
        f"| {label} | {sum(getattr(row, field) for row in rows)} |"
        for field, label in (
            ("wrapped", "wrapped, saved, loaded: equal"),
            ("converted", "TFLite builtins: Keras's output"),
            ("cut", "cut in two: equal"),
        )
    ]
    lines += ["", "Operations that fail a test, by the reason in the tables:", ""]
    lines += ["| reason | operations | |", "|---|---:|---|"]
    counts = Counter(row.why for row in rows if row.why)
    lines += [f"| {why} | {count} | {_MEANINGS[why]} |" for why, count in counts.most_common()]
    lines += ["", _TESTS]
    module = ""
    for row in rows:
        if module != (module := classes[row.name].__module__):
            lines += ["", f"## {module}", ""]
            lines += ["| operation | `keras.ops` | wrapped | TFLite | cut | reason | remark |"]
            lines += ["|---|---|---|---|---|---|---|"]
        made_by = ", ".join(f"`{path}`" for path in functions.get(row.name, ()))
        marks = " | ".join("yes" if x else "no" for x in (row.wrapped, row.converted, row.cut))
        remark = " ".join(row.remark.replace("|", "\\|").split())
        lines.append(f"| {row.name} | {made_by} | {marks} | {row.why} | {remark} |")
    return "\n".join(line.rstrip() for line in lines) + "\n"


_HEAD = """# Every operation of Keras

Written by `python generators/generate_operations.py`. Change the script, not this text.

**Keras {version} has {count} operation classes behind `keras.ops`; {passed} pass all three tests:
wrapped, TFLite and cut.**
"""

_TESTS = f"""\
Each operation is in its own model: layers produce its inputs, and a `Dense` layer reads its outputs
together with a path around the operation. Weights and inputs are seeded. The tests compare four
inputs, which have different outputs.

- **wrapped**: `wrap_operations` makes the operation a layer. The wrapped model, and the model that
  Keras loads from its `.keras` file without `custom_objects`, give the original's bits.
- **TFLite**: the model converts to TFLite's builtin operators. LiteRT's output differs from Keras's
  by at most {TOLERANCE:.1%} of the largest value.
- **cut**: the model is cut in two at each possible position, also right after the operation unless
  the remark says otherwise. The two parts give the whole's bits.

The column `keras.ops` names the functions that create the operation. The cell is empty for a base
class, for a class that is created under another name, and for `Function`, whose own operations
replace it."""

_MEANINGS = {
    "no builtin": "TFLite has no builtin for a TensorFlow operator of the operation",
    "not in a graph": "Keras itself cannot build or run a functional model with the operation",
    "not convertible": "TensorFlow cannot trace or convert the operation; the remark says why",
    "shape-dependent": "the shape of the output depends on the values of the input",
    "random": "equal inputs give different outputs",
    "not wrapped": "the wrapper fails",
    "not split": "a part cannot be cut out or run",
    "other answer": "the converted operators compute a different output",
    "crash": "TensorFlow ends the process",
    "timeout": f"no result in {TIMEOUT_S} s",
}


def main() -> None:
    """Test the operations, then write the document."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="test and print only these, write nothing"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    outcomes = examine_all(options.only or operation_classes(), options.jobs)
    if not options.only:
        DOCUMENT.write_text(write_document(outcomes))
        print(f"wrote {DOCUMENT}")


if __name__ == "__main__":
    main()
