"""Write docs/pixels.md: the answers of `edge-partition run` to photographs against Keras's answers.

    python generators/generate_pixels.py                        # all applications not in the cache
    python generators/generate_pixels.py --only MobileNetV2 --again
    python generators/generate_pixels.py --table                # measure nothing, use the cache

For each application, the script runs `edge-partition split --weights seeded`, a broker, two agents
and `edge-partition run`. Keras predicts for the same photographs: this script decodes and resizes
them with Pillow, and the application's own `preprocess_input` prepares them. The cache is
docs/.cache.
"""

# ruff: noqa: ISC004 -- a script that writes paragraphs

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from generate_models import list_applications
from PIL import Image
from sklearn.datasets import __file__ as sklearn_datasets

from edge_partition.boards.deploy_bundle import Deployer
from edge_partition.bundles.bundle import read_bundle
from edge_partition.emulation.desk_fleet import DeskFleet
from edge_partition.planning.fleet import equal_fleet

_DOCS = Path(__file__).parents[1] / "docs"
_CACHE = _DOCS / ".cache" / "pixels"
#: Photographs that scikit-learn ships, 640 x 427.
_PICTURES = tuple(
    Path(sklearn_datasets).parent / "images" / name for name in ("china.jpg", "flower.jpg")
)
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "area": Image.Resampling.BOX,
}
#: Largest accepted difference of a class's score between `run` and Keras.
LIMIT = 1e-4


class UnequalError(Exception):
    """A command failed, or the manifest has no pixel range; the application has no figures."""


def measure(name: str) -> dict[str, Any]:
    """Return an application's pixels, and the differences to Keras of `run` and of wrong pixels."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _edge_partition("split", name, "--weights", "seeded", "--stages", "2", "-o", folder / "b")
        bundle = read_bundle(folder / "b")
        (spec,) = bundle.manifest.inputs
        if spec.pixels is None:
            raise UnequalError(f"{name}: the manifest has no pixel range")
        with DeskFleet(equal_fleet(2)) as desk:
            with Deployer(desk.url) as deployer:
                deployer.deploy(bundle)
            _edge_partition(
                *("run", bundle.manifest.deployment, *_PICTURES, "--broker", desk.url),
                *("-o", folder / "answers.npz"),
            )
        with np.load(folder / "answers.npz") as archive:
            answers = archive[bundle.manifest.outputs[0].name].reshape(len(_PICTURES), -1)
    height, width = spec.shape[1:3]
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        right, wrong = process.submit(predict, name, height, width, spec.pixels.resize).result()
    return {
        "name": name,
        "size": [height, width],
        "order": spec.pixels.order,
        "mean": spec.pixels.mean,
        "std": spec.pixels.std,
        "resize": spec.pixels.resize,
        "difference": float(np.abs(answers - right).max()),
        "wrong_pixels": float(np.abs(right - wrong).max()),
        "largest": float(right.max()),
    }


def predict(name: str, height: int, width: int, resize: str) -> tuple[np.ndarray, np.ndarray]:
    """Return Keras's answers to the pictures, with right and with wrong preprocessing.

    Returns:
        float32, shape ``(pictures, classes)`` each.
    """
    from edge_partition.model.keras_model import load_keras_model  # noqa: I001, PLC0415 -- Keras's backend
    import keras  # noqa: PLC0415

    model = load_keras_model(name, weights="seeded").model
    preprocess = sys.modules[getattr(keras.applications, name).__module__].preprocess_input
    pictures = []
    for file in _PICTURES:
        with Image.open(file) as picture:
            resized = picture.convert("RGB").resize((width, height), _FILTERS[resize])
        pictures.append(np.asarray(resized, np.float32))
    raw = np.stack(pictures)
    right = preprocess(raw.copy())
    wrong = raw / 127.5 - 1 if np.array_equal(right, raw) else raw
    return tuple(  # type: ignore[return-value]
        np.concatenate([model.predict(one[None], verbose=0) for one in batch]).reshape(2, -1)
        for batch in (right, wrong)
    )


def _edge_partition(*words: str | Path) -> None:
    command = [Path(sys.executable).with_name("edge-partition"), *map(str, words)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise UnequalError(result.stderr.strip())


def write_document(names: list[str]) -> None:
    """Write docs/pixels.md from the cache."""
    found = [
        json.loads(path.read_text())
        for name in sorted(names)
        if (path := _CACHE / f"{name}.json").exists()
    ]
    done = [row for row in found if "failed" not in row]
    near = sum(row["difference"] <= LIMIT for row in done)
    lines = [
        "# Pixels of the Keras applications",
        "",
        "Written by `python generators/generate_pixels.py`. Change the generator, not this file.",
        "",
        f"**`edge-partition run` answers as Keras does: within {LIMIT:g} in {near} of "
        f"{len(names)} applications.** *Order*, *mean*, *deviation* and *resize* say how a picture "
        "becomes the model's input; `split` writes them into the manifest.",
        "",
        "- *run against Keras*: the largest difference of a score. Each application has seeded "
        "weights and is split over two agents. `run` sends two photographs. Keras predicts for the "
        "same photographs, resized by Pillow and prepared by the application's own "
        "`preprocess_input`.",
        "- *wrong pixels*: the largest difference of a score that a wrong range of pixel values "
        "makes in Keras: 0 to 255 left as they are, or -1..1 for an application that takes 0 to "
        "255. The comparison would show an error of this size.",
        "- *largest score*: the largest score in Keras's answers.",
        "",
        f"Keras {version('keras')}, TensorFlow {version('tensorflow-cpu')}, LiteRT "
        f"{version('ai-edge-litert')}, Pillow {version('pillow')}.",
        "",
        "| model | input | order | mean | deviation | resize | run against Keras | wrong pixels "
        "| largest score |",
        "|---|---|---|---|---|---|--:|--:|--:|",
    ]
    for row in found:
        if "failed" in row:
            lines.append(f"| {row['name']} | {row['failed']} | | | | | | | |")
            continue
        lines.append(
            f"| {row['name']} | {row['size'][0]}x{row['size'][1]} | {row['order']} "
            f"| {_spell(row['mean'])} | {_spell(row['std'])} | {row['resize']} "
            f"| {row['difference']:.1e} | {row['wrong_pixels']:.1e} | {row['largest']:.2g} |"
        )
    (_DOCS / "pixels.md").write_text("\n".join(lines) + "\n")


def _spell(numbers: list[float]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)


def main() -> None:
    """Measure the applications that the options name, then write the document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="measure only these applications")
    parser.add_argument(
        "--again", action="store_true", help="measure applications in the cache too"
    )
    parser.add_argument(
        "--table", action="store_true", help="measure nothing; write the document from the cache"
    )
    arguments = parser.parse_args()
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        names = process.submit(list_applications).result()
    _CACHE.mkdir(parents=True, exist_ok=True)
    for name in () if arguments.table else (arguments.only or names):
        path = _CACHE / f"{name}.json"
        if path.exists() and not arguments.again:
            continue
        try:
            result = measure(name)
        except UnequalError as error:
            result = {"name": name, "failed": str(error)}
        path.write_text(json.dumps(result))
        print(json.dumps(result), flush=True)
    write_document(names)


if __name__ == "__main__":
    main()
