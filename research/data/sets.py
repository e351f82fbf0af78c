"""The project's own data sets, loaded into memory. The first call prepares them."""

import os

import numpy as np

from research.data.readers.arrays import Arrays, in_memory
from research.data.readers.tfds import prepared, tfds_source


def digits(*, data_dir=None) -> Arrays:
    """Load scikit-learn's 1797 handwritten digits: "image" u8 [8, 8, 1] (0 to 16), "label" i32. It has no splits."""
    return _labelled(tfds_source("digits", "all", data_dir=data_dir))


def fashion_mnist(split: str, *, folder=None, data_dir=None) -> Arrays:
    """Load Fashion-MNIST, "train" (60,000) or "test" (10,000): "image" u8 [28, 28, 1], "label" i32; has `classes`.

    The four IDX files are read from `folder`, or from $FASHION_MNIST_DIR. Without either, the folder of the Debian
    package and the downloads of TFDS are searched. Raises UserError if files are missing (the message lists all
    searched folders), truncated or wrong.
    """
    folder = folder or os.environ.get("FASHION_MNIST_DIR") or None
    return _labelled(tfds_source(prepared("fashion_mnist", data_dir=data_dir, folder=folder), split))


def glyphs(*, data_dir=None) -> Arrays:
    """Load 371 characters in 12 fonts: "image" u8 [28, 28, 1] (255 is ink), "label" i32, "font". It has no splits."""
    return _labelled(tfds_source("glyphs", "train", data_dir=data_dir))


def stdlib_text(split: str, *, data_dir=None) -> Arrays:
    """Load the source files of this Python's standard library: "text" u8 [bytes], "path" str.

    `split` is "train", "validation" or "test". The documents, for example for `pack(documents, length)`, are
    `stdlib_text(split).columns["text"]`.
    """
    source = tfds_source("stdlib_text", split, data_dir=data_dir)
    rows = source.__getitems__(range(len(source)))
    text, path = (np.empty(len(rows), object) for _ in range(2))
    text[:], path[:] = [row["text"] for row in rows], [row["path"] for row in rows]
    return Arrays({"text": text, "path": path})


def _labelled(source):
    data = in_memory(source)
    return Arrays({**data.columns, "label": data.columns["label"].astype(np.int32)}, data.classes)
