"""Train MobileNetV3Large on the UCI handwritten digits and write ``digits.keras``.

    python train.py              # trains on four fifths, tests on the held-out fifth
    python train.py --rehearse   # holds out a part of the four fifths instead, writes nothing

The network has no fixed size, so most epochs run on small images, which is several times quicker,
and the last ones on the size that ships. The recipe was chosen with ``--rehearse`` only; the
held-out fifth is looked at once, after the file was written.
"""

from __future__ import annotations

import argparse
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import digits
import keras
import numpy as np
import tensorflow as tf

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEED = 7
BATCH = 32
#: (image size in pixels, epochs), in this order.
PHASES = ((48, 16), (96, 16))
PEAK_LEARNING_RATE = 2e-3
REHEARSAL_COUNT = 240
MODEL_FILE = Path(__file__).parent / "digits.keras"


def build(size: int | None) -> keras.Model:
    """Return an untrained model of input ``[batch, size, size, 3]``, values 0 to 255."""
    return keras.applications.MobileNetV3Large(
        input_shape=(size, size, 3),
        weights=None,
        classes=10,
        name="mobilenet_v3_large_digits",
    )


def augmented(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> tf.data.Dataset:
    """Return shuffled batches, each image shifted, turned, scaled, sheared and noised a little."""
    distort = keras.Sequential(
        [
            keras.layers.RandomTranslation(0.1, 0.1, fill_mode="constant", seed=SEED),
            keras.layers.RandomRotation(10 / 360, fill_mode="constant", seed=SEED),
            keras.layers.RandomZoom((-0.12, 0.12), (-0.12, 0.12), fill_mode="constant", seed=SEED),
            keras.layers.RandomShear(0.1, 0.0, fill_mode="constant", seed=SEED),
        ]
    )

    def prepare(grey: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        grey = distort(grey, training=True)
        grey += tf.random.normal(tf.shape(grey), stddev=6.0, seed=SEED)
        return tf.repeat(grey, 3, axis=-1), label

    # All three channels are equal: distort one, then repeat it.
    grey = images[..., :1].astype(np.float32)
    return (
        tf.data.Dataset.from_tensor_slices((grey, tf.one_hot(labels, 10)))
        .shuffle(len(grey), seed=SEED)
        .batch(BATCH, drop_remainder=True)
        .map(prepare)
        .prefetch(2)
    )


def train(parts: dict[int, tuple[NDArray[np.uint8], NDArray[np.int64]]]) -> keras.Model:
    """Train one model through all phases.

    Args:
        parts: Images and labels to train on, by image size in pixels.
    """
    model = build(None)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            # With the application's 0.999, some 2,000 steps would leave a good part of the
            # initial statistics in place.
            layer.momentum = 0.9
    epochs = sum(count for _, count in PHASES)
    steps = epochs * (len(parts[PHASES[0][0]][0]) // BATCH)
    schedule = keras.optimizers.schedules.CosineDecay(
        PEAK_LEARNING_RATE / 20,
        decay_steps=steps - steps // 12,
        warmup_target=PEAK_LEARNING_RATE,
        warmup_steps=steps // 12,
    )
    model.compile(
        keras.optimizers.AdamW(schedule, weight_decay=1e-2, clipnorm=1.0),
        keras.losses.CategoricalCrossentropy(label_smoothing=0.1),
        metrics=["accuracy"],
    )
    done = 0
    for size, count in PHASES:
        model.fit(
            augmented(*parts[size]),
            initial_epoch=done,
            epochs=done + count,
            verbose=2,
            shuffle=False,
        )
        done += count
    return model


def shipped(trained: keras.Model) -> keras.Model:
    """Return the model at its final size, its kernels rounded to what float16 can hold.

    The rounded kernels stay float32, so any Keras reads them, but half of their bytes become
    compressible. Biases and batch-norm statistics are few and stay as they are.
    """
    model = build(digits.INPUT_SIZE)
    model.set_weights(
        [
            value.astype(np.float16).astype(np.float32) if value.ndim > 1 else value
            for value in trained.get_weights()
        ]
    )
    return model


def save(model: keras.Model, path: Path) -> None:
    """Write a ``.keras`` file whose members are compressed; Keras itself only stores them."""
    stored = path.with_suffix(".stored.keras")
    model.save(stored)
    with (
        zipfile.ZipFile(stored) as source,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    stored.unlink()


def accuracy(model: keras.Model, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> float:
    """Return the share of ``images`` that ``model`` gives the true label."""
    scores = model.predict(images.astype(np.float32), batch_size=BATCH, verbose=0)
    return float(np.mean(np.argmax(scores, axis=-1) == labels))


def main() -> None:
    """Train, write the model, read it back and print its accuracy."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--rehearse",
        action="store_true",
        help=f"test on {REHEARSAL_COUNT} of the training scans; write nothing",
    )
    rehearse = parser.parse_args().rehearse
    keras.utils.set_random_seed(SEED)

    parts = {size: digits.training(size) for size, _ in PHASES}
    images, labels = digits.training()
    if rehearse:
        order = np.random.default_rng(SEED).permutation(len(labels))
        kept, tested = order[REHEARSAL_COUNT:], order[:REHEARSAL_COUNT]
        parts = {size: (x[kept], y[kept]) for size, (x, y) in parts.items()}
        images, labels = images[tested], labels[tested]

    start = time.perf_counter()
    model = shipped(train(parts))
    print(f"trained for {(time.perf_counter() - start) / 60:.1f} minutes")
    if rehearse:
        print(f"rehearsal: {accuracy(model, images, labels):.4f} of {len(labels)}")
        return
    save(model, MODEL_FILE)
    print(f"{MODEL_FILE.name}: {MODEL_FILE.stat().st_size:,} bytes")
    loaded = keras.models.load_model(MODEL_FILE)
    print(f"training: {accuracy(loaded, images, labels):.4f} of {len(labels)}")
    images, labels = digits.held_out()
    print(f"held out: {accuracy(loaded, images, labels):.4f} of {len(labels)}")


if __name__ == "__main__":
    main()
