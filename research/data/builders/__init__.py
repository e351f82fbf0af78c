"""TFDS builders of the project's own data sets. Importing one of these modules imports TFDS.

    images    digits (scikit-learn's), fashion_mnist (from its four IDX files), glyphs (rendered from fonts)
    text      stdlib_text (the source of Python's standard library)

Each data set is prepared once; `research.data.sets` then reads it with random access. To add one, copy `digits.py` and
register it in MODULES.
"""

MODULES = {
    "digits": ("research.data.builders.digits", "Digits"),
    "fashion_mnist": ("research.data.builders.fashion_mnist", "FashionMnistIdx"),
    "glyphs": ("research.data.builders.glyphs", "Glyphs"),
    "stdlib_text": ("research.data.builders.stdlib_text", "StdlibText"),
}
