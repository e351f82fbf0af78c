"""TFDS builders of the data sets that are named here. Importing one of these modules imports TFDS.

    images    digits (scikit-learn's), fashion_mnist (from its four IDX files), glyphs (rendered from fonts)
    text      stdlib_text (the source of Python's standard library)
    packaged  one for each data set of `research.data.packaged`

Each data set is prepared once; `research.data.sets` then reads it with random access. To add one that is made here,
copy `digits.py` and register it in MODULES; for one inside a package, see `research.data.packaged`.
"""

from research.data.packaged import NAMES

MODULES = {
    "digits": ("research.data.builders.digits", "Digits"),
    "fashion_mnist": ("research.data.builders.fashion_mnist", "FashionMnistIdx"),
    "glyphs": ("research.data.builders.glyphs", "Glyphs"),
    "stdlib_text": ("research.data.builders.stdlib_text", "StdlibText"),
    **{name: ("research.data.builders.packaged", name) for name in NAMES},
}
