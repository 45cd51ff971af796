"""Every operation becomes a layer, and the outputs of the model do not change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edge_partition.model.operation_layer import OperationLayer
from edge_partition.model.seeded_weights import seed_weights
from edge_partition.model.source_errors import WrapError
from edge_partition.model.wrap_operations import keras, wrap_operations, wrapped_operations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ops = keras.ops
layers = keras.layers


def examples(model: keras.Model, seed: int = 0) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    shapes = [[size or 2 for size in tensor.shape] for tensor in model.inputs]
    return [
        generator.integers(0, 5, shape) if "int" in tensor.dtype
        else generator.normal(size=shape).astype("float32")
        for tensor, shape in zip(model.inputs, shapes, strict=True)
    ]  # fmt: skip


def run(model: keras.Model, inputs: Any) -> list[np.ndarray]:
    structure = keras.tree.pack_sequence_as(model.input, list(inputs))
    return [np.asarray(x) for x in keras.tree.flatten(model(structure, training=False))]


def bare_operations(model: keras.Model) -> Iterator[keras.Operation]:
    for operation in getattr(model, "operations", model.layers):
        if not isinstance(operation, layers.Layer):
            yield operation
        elif isinstance(operation, keras.Model):
            yield from bare_operations(operation)


def check_equal(model: keras.Model, tmp_path: Path) -> keras.Model:
    """Wrap, compare, save, load, compare again; return the wrapped model."""
    inputs = examples(model)
    expected = run(model, inputs)
    other = run(model, examples(model, seed=1))
    assert any((a != b).any() for a, b in zip(expected, other, strict=True)), "blind comparison"

    wrapped = wrap_operations(model)
    assert not list(bare_operations(wrapped))
    assert wrap_operations(wrapped) is wrapped
    wrapped.save(tmp_path / "wrapped.keras")
    loaded = keras.saving.load_model(tmp_path / "wrapped.keras")
    for candidate in (wrapped, loaded):
        for a, b in zip(expected, run(candidate, inputs), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
    assert wrapped_operations(loaded) == wrapped_operations(wrapped)
    return wrapped


def image(name: str = "image", shape: tuple[int, ...] = (6, 6, 4)) -> keras.KerasTensor:
    return keras.Input(shape, name=name)


CALLS = {
    "constant on the right": lambda x: x + 3.0,
    "constant on the left": lambda x: 3.0 - x,
    "array on the right": lambda x: x * np.linspace(0, 1, 4, dtype="float32"),
    "array on the left": lambda x: ops.subtract(np.linspace(0, 1, 4, dtype="float32"), x),
    "tensor constant": lambda x: ops.add(ops.convert_to_tensor([1.0, 2.0, 3.0, 4.0]), x),
    "keyword": lambda x: ops.mean(x, axis=(1, 2), keepdims=True),
    "both tensors": lambda x: ops.maximum(x, ops.square(x)),
    "list": lambda x: ops.concatenate([x, ops.negative(x), x], axis=-1),
    "several outputs": lambda x: ops.split(x, 2, axis=-1),
    "one of several outputs": lambda x: ops.split(x, 2, axis=-1)[1],
    "slice": lambda x: x[:, 1:, ::2, ..., :-1],
    "slice with a new axis": lambda x: x[:, None, 0],
    "where": lambda x: ops.where(x > 0, x, -1.0),
    "clip by arrays": lambda x: ops.clip(x, np.full(4, -0.5, "float32"), 0.5),
    "pad": lambda x: ops.pad(x, ((0, 0), (1, 2), (0, 1), (0, 0)), constant_values=2.0),
    "einsum": lambda x: ops.einsum("bhwc,bhwd->bcd", x, x),
    "top k": lambda x: ops.top_k(x, k=2),
    "cast": lambda x: ops.cast(x, "int32"),
    "same dtype": lambda x: ops.cast(ops.cast(x, "float64") * 3, "float16"),
    "image": lambda x: ops.image.resize(x, (3, 3), interpolation="bilinear"),
    "chain": lambda x: ops.relu6(x + 3.0) * (1.0 / 6.0),
    "complex constant": lambda x: ops.real(ops.cast(x, "complex64") * np.complex64(1 + 2j)),
    "reshape": lambda x: ops.transpose(ops.reshape(x, (-1, 36, 4)), (0, 2, 1)),
    "functional": lambda x: layers.Activation("relu")(ops.softmax(x, axis=-1)),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_wrapped_call_gives_the_same_bits_saved_and_loaded(
    call: Callable[[Any], Any], tmp_path: Path
) -> None:
    x = image()
    check_equal(keras.Model(x, call(layers.Dense(4, name="mix")(x)), name="m"), tmp_path)


def test_names_start_with_the_layer_before_the_operation() -> None:
    def build() -> keras.Model:
        x = image()
        y = layers.Conv2D(4, 1, name="gate")(x)
        y = layers.ReLU(6.0)(y + 3.0) * (1.0 / 6.0)
        return keras.Model(x, ops.add(y, x) + 1.0 + 2.0)

    names = [item.layer_name for item in wrapped_operations(wrap_operations(build()))]
    assert names == ["gate__add_1", "gate__multiply_1", "gate__add_2", "gate__add_3", "gate__add_4"]
    again = [item.layer_name for item in wrapped_operations(wrap_operations(build()))]
    assert again == names, "Keras's own numbers must not be in the names"


def test_an_operation_on_an_input_has_the_name_of_the_input() -> None:
    x = image("photo")
    (item,) = wrapped_operations(wrap_operations(keras.Model(x, x / 255.0)))
    assert item.layer_name == "photo__true_divide_1"
    assert item.operation == "keras.src.ops.numpy.TrueDivide"
    assert item.constants == ("x2=255.0",)


def test_an_operation_with_a_given_name_keeps_its_name() -> None:
    x = image()
    y = keras.src.ops.numpy.Add(name="residual")(x, 1.0)
    assert wrap_operations(keras.Model(x, y)).layers[1].name == "residual"


def test_several_inputs_and_outputs_keep_names_order_and_structure(tmp_path: Path) -> None:
    a, b = image("zebra"), image("apple")
    model = keras.Model({"zebra": a, "apple": b}, {"sum": a + b, "both": (a * 2.0, b)})
    wrapped = check_equal(model, tmp_path)
    assert [x.name for x in wrapped.inputs] == [x.name for x in model.inputs]
    keras.tree.assert_same_structure(wrapped.output, model.output)


def test_a_shared_layer_stays_shared(tmp_path: Path) -> None:
    x = image()
    dense = layers.Dense(4, name="shared")
    y = dense(dense(x) + 1.0) * 2.0
    wrapped = check_equal(keras.Model(x, y + dense(x)), tmp_path)
    assert sum(layer.name == "shared" for layer in wrapped.layers) == 1
    assert len(wrapped.weights) == 2


def test_nested_models_are_wrapped_at_any_depth_and_stay_shared(tmp_path: Path) -> None:
    x = image("inner_image")
    inner = keras.Model(x, layers.Dense(4, name="d")(x) + 1.0, name="inner")
    middle = keras.Sequential([keras.Input((6, 6, 4)), layers.ReLU(), inner], name="middle")
    y = image()
    outer = keras.Model(y, middle(middle(y) - 1.0), name="outer")
    z = image()
    model = keras.Model(z, outer(z) * 2.0)
    wrapped = check_equal(model, tmp_path)
    names = {item.layer_name for item in wrapped_operations(wrapped)}
    assert names == {
        "outer/middle/inner/d__add_1",
        "outer/middle__subtract_1",
        "outer__multiply_1",
    }
    assert len(wrapped.weights) == len(model.weights) == 2


def test_a_mask_reaches_the_layer_that_uses_it(tmp_path: Path) -> None:
    x = keras.Input((5,), dtype="int32", name="tokens")
    y = layers.Embedding(5, 3, mask_zero=True, name="words")(x)
    wrapped = check_equal(keras.Model(x, layers.LSTM(4, name="memory")(y) + 1.0), tmp_path)
    assert [item.layer_name for item in wrapped_operations(wrapped)] == [
        "tokens__not_equal_1",
        "memory__add_1",
    ]


def test_tensors_in_keywords_of_a_layer_stay_in_place(tmp_path: Path) -> None:
    x = keras.Input((5, 4), name="steps")
    attention = layers.MultiHeadAttention(2, 4, name="attention")
    model = keras.Model(x, attention(x + 1.0, value=x * 2.0, key=ops.tanh(x)))
    check_equal(model, tmp_path)


def test_a_variable_as_constant_keeps_its_value(tmp_path: Path) -> None:
    x = image()
    dense = layers.Dense(4, name="d")
    y = dense(x)
    check_equal(keras.Model(x, ops.matmul(y, dense.kernel)), tmp_path)


def test_the_operations_of_a_function_are_wrapped(tmp_path: Path) -> None:
    x = image()
    function = keras.Function(x, ops.sin(x) + 1.0)
    y = image("other")
    wrapped = check_equal(keras.Model(y, function(layers.Dense(4, name="d")(y))), tmp_path)
    assert [item.layer_name for item in wrapped_operations(wrapped)] == ["d__sin_1", "d__add_1"]


@keras.saving.register_keras_serializable("tests")
class Twice(keras.Operation):
    def __init__(self, weights: list[float]) -> None:
        super().__init__()
        self.weights_by_name = {"first": np.asarray(weights)}

    def call(self, inputs: Any, *, scale: float) -> Any:
        return inputs["x"] * scale * self.weights_by_name["first"], (inputs["y"][0],)

    def compute_output_spec(self, inputs: Any, **_: float) -> Any:
        spec = keras.KerasTensor(inputs["x"].shape, inputs["x"].dtype)
        return spec, (keras.KerasTensor(inputs["y"][0].shape, inputs["y"][0].dtype),)


def test_a_registered_user_operation_is_wrapped_and_saved(tmp_path: Path) -> None:
    x = image()
    scaled, (same,) = Twice([1.0, 2.0, 3.0, 4.0])({"x": x, "y": [ops.exp(x)]}, scale=2.0)
    check_equal(keras.Model(x, [scaled, same]), tmp_path)


def test_functions_of_keras_ops_and_registered_ones_are_saved_by_name(tmp_path: Path) -> None:
    x = image(shape=(4, 4))
    y = layers.Dense(4, name="d")(x)
    model = keras.Model(
        x,
        [
            ops.associative_scan(ops.add, y, axis=1),
            ops.map(halve, y),
            ops.map(keras.activations.tanh, y),
        ],
    )
    check_equal(model, tmp_path)


@keras.saving.register_keras_serializable("tests")
def halve(x: Any) -> Any:
    return x * 0.5


def test_a_function_that_could_not_be_loaded_again_is_not_saved(tmp_path: Path) -> None:
    def unknown(x: Any) -> Any:
        return x * 0.5

    x = image()
    wrapped = wrap_operations(keras.Model(x, ops.map(unknown, x)))
    with pytest.raises(WrapError, match=r"unknown.*register_keras_serializable"):
        wrapped.save(tmp_path / "wrapped.keras")


def test_a_file_cannot_name_a_function_outside_keras_ops() -> None:
    x = image()
    (layer,) = wrap_operations(keras.Model(x, ops.map(ops.square, x))).layers[1:]
    config = layer.get_config()
    assert OperationLayer.from_config(config).arguments == layer.arguments
    for module, name in (("os", "system"), ("keras.src.utils.file_utils", "get_file")):
        config["arguments"]["items"][0]["items"][0] |= {"module": module, "name": name}
        with pytest.raises(WrapError, match=f"{module}.{name}"):
            OperationLayer.from_config(config)


def test_an_operation_that_gives_a_number_is_wrapped(tmp_path: Path) -> None:
    x = image()
    check_equal(keras.Model(x, x * keras.src.ops.numpy.Ndim()(x)), tmp_path)


def test_a_model_shared_across_levels_is_wrapped_once() -> None:
    x = image("inner_image")
    shared = keras.Model(x, layers.Dense(4, name="d")(x) + 1.0, name="shared")
    y = image("outer_image")
    outer = keras.Model(y, shared(y) * 2.0, name="outer")
    z = image()
    model = keras.Model(z, ops.tanh(shared(z)) + outer(z))
    wrapped = wrap_operations(model)
    assert not list(bare_operations(wrapped))
    assert len(wrapped.weights) == 2
    inputs = examples(model)
    np.testing.assert_array_equal(run(model, inputs)[0], run(wrapped, inputs)[0])


def test_lambda_and_user_layers_are_left_alone() -> None:
    class Mine(layers.Layer):
        def call(self, x: Any) -> Any:
            return x * 2.0

    x = image()
    y = layers.Lambda(lambda v: v - 1.0, name="lam")(Mine(name="mine")(x) + 1.0)
    model = keras.Model(x, y)
    wrapped = wrap_operations(model)
    kinds = [type(layer).__name__ for layer in wrapped.layers]
    assert kinds == ["InputLayer", "Mine", "OperationLayer", "Lambda"]
    inputs = examples(model)
    np.testing.assert_array_equal(run(model, inputs)[0], run(wrapped, inputs)[0])


def test_a_model_without_bare_operations_is_returned_itself() -> None:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    assert wrap_operations(model) is model


def test_a_subclassed_model_is_refused() -> None:
    class Opaque(keras.Model):
        def call(self, x: Any) -> Any:
            return x + 1.0

    with pytest.raises(WrapError, match="subclassed model"):
        wrap_operations(Opaque())


def test_a_file_cannot_name_a_class_outside_keras() -> None:
    x = image()
    (layer,) = wrap_operations(keras.Model(x, x + 1.0)).layers[1:]
    config = layer.get_config()
    config["operation"] |= {"module": "subprocess", "class_name": "Popen"}
    with pytest.raises(WrapError, match=r"subprocess\.Popen"):
        OperationLayer.from_config(config)


def test_mobilenet_v3_has_sixteen_operations_with_names_of_layers(tmp_path: Path) -> None:
    model = keras.applications.MobileNetV3Large(weights=None, input_shape=(64, 64, 3))
    seed_weights(model)
    wrapped = check_equal(model, tmp_path)
    names = [item.layer_name for item in wrapped_operations(wrapped)]
    assert len(names) == 16
    assert names[:2] == [
        "expanded_conv_3_squeeze_excite_conv_1__add_1",
        "expanded_conv_3_squeeze_excite_conv_1__multiply_1",
    ]
