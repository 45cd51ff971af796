"""The UCI handwritten digits as the model sees them, and the fifth of them held out for testing.

scikit-learn bundles 1,797 scans of 8 by 8 pixels (E. Alpaydin and C. Kaynak, 1998,
https://doi.org/10.24432/C50P49). Every scan becomes a greyscale picture of 32 by 32 pixels, which
is what lies in ``images/``, and any picture becomes a model's input in the same way: RGB, enlarged
to 96 by 96 by Pillow's bicubic filter. Training and testing share both steps.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Height and width of the model's input, in pixels.
INPUT_SIZE = 96
#: Height and width of a picture in ``images/``, in pixels.
PICTURE_SIZE = 32
#: How many of the 1,797 scans are held out: a fifth, stratified by label.
HELD_OUT_COUNT = 360

IMAGES = Path(__file__).parent / "images"

_SPLIT_SEED = 1998
#: The scans count ink in 4 by 4 cells: 0 is paper, 16 all ink.
_MAX_INK = 16


def split() -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the positions in scikit-learn's data set, of training and of held-out scans.

    Returns:
        Two sorted, disjoint arrays, of 1,437 and of 360 positions.
    """
    labels = load_digits().target
    training_part, held_out_part = train_test_split(
        np.arange(len(labels)),
        test_size=HELD_OUT_COUNT,
        stratify=labels,
        random_state=_SPLIT_SEED,
    )
    return np.sort(training_part), np.sort(held_out_part)


def training(size: int = INPUT_SIZE) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the four fifths to train on.

    Args:
        size: Height and width of the images, in pixels.

    Returns:
        Images ``[1437, size, size, 3]`` with values 0 (paper) to 255 (ink), and labels ``[1437]``.
    """
    return _load(split()[0], size)


def held_out(size: int = INPUT_SIZE) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the fifth that training never sees.

    Args:
        size: Height and width of the images, in pixels.

    Returns:
        Images ``[360, size, size, 3]`` with values 0 (paper) to 255 (ink), and labels ``[360]``.
    """
    return _load(split()[1], size)


def picture(scan: NDArray[np.float64]) -> Image.Image:
    """Return the greyscale picture of a scan.

    Args:
        scan: ``[8, 8]``, 0 (paper) to 16 (ink).

    Returns:
        An image of 32 by 32 pixels, mode ``L``, light ink on dark paper.
    """
    grey = np.rint(scan * (255 / _MAX_INK)).astype(np.uint8)
    return Image.fromarray(grey).resize((PICTURE_SIZE, PICTURE_SIZE), Image.Resampling.BICUBIC)


def model_input(image: Image.Image, size: int = INPUT_SIZE) -> NDArray[np.uint8]:
    """Return any picture as RGB, ``[size, size, 3]``, values 0 to 255."""
    return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC))


def write_held_out_images() -> None:
    """Write the held-out fifth to ``images/digit-LABEL-POSITION.png``."""
    data = load_digits()
    IMAGES.mkdir(exist_ok=True)
    for position in split()[1]:
        name = f"digit-{data.target[position]}-{position:04d}.png"
        picture(data.images[position]).save(IMAGES / name, optimize=True)


def _load(positions: NDArray[np.intp], size: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    data = load_digits()
    images = [model_input(picture(data.images[position]), size) for position in positions]
    return np.stack(images), data.target[positions]


if __name__ == "__main__":
    write_held_out_images()
