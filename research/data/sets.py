"""The data sets that ship with the project, in memory and ready to use; prepared when first asked for."""

import os

import numpy as np

from research.data.readers.arrays import Arrays, in_memory
from research.data.readers.tfds import prepared, tfds_source


def digits(*, data_dir=None) -> Arrays:
    """scikit-learn's 1797 handwritten digits: "image" u8 [8, 8, 1] (0 to 16), "label" i32; split it yourself."""
    return _labelled(tfds_source("digits", "all", data_dir=data_dir))


def fashion_mnist(split: str, *, folder=None, data_dir=None) -> Arrays:
    """Fashion-MNIST, "train" (60,000) or "test" (10,000): "image" u8 [28, 28, 1], "label" i32; `classes` has names.

    The four IDX files are looked for in `folder`, or in FASHION_MNIST_DIR, if one is given; else in the Debian
    package's folder and under TFDS's downloads. Raises UserError with all places where they are missing, and for
    files that are truncated or not what they should be.
    """
    folder = folder or os.environ.get("FASHION_MNIST_DIR") or None
    return _labelled(tfds_source(prepared("fashion_mnist", data_dir=data_dir, folder=folder), split))


def glyphs(*, data_dir=None) -> Arrays:
    """371 characters in 12 fonts: "image" u8 [28, 28, 1] (ink, 0 to 255), "label" i32, "font"; split it yourself."""
    return _labelled(tfds_source("glyphs", "train", data_dir=data_dir))


def stdlib_text(split: str, *, data_dir=None) -> Arrays:
    """Source files of this Python's standard library, "train", "validation" or "test": "text" u8 [bytes], "path" str.

    The documents are `stdlib_text(split).columns["text"]`, e.g. for `pack(documents, length)`.
    """
    source = tfds_source("stdlib_text", split, data_dir=data_dir)
    rows = source.__getitems__(range(len(source)))
    text, path = (np.empty(len(rows), object) for _ in range(2))
    text[:], path[:] = [row["text"] for row in rows], [row["path"] for row in rows]
    return Arrays({"text": text, "path": path})


def _labelled(source):
    data = in_memory(source)
    return Arrays({**data.columns, "label": data.columns["label"].astype(np.int32)}, data.classes)
