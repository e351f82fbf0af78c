"""The data sets that ship with the project, as TFDS builders. Importing one of these modules imports TFDS.

    images    digits (scikit-learn's), fashion_mnist (from its four IDX files), glyphs (rendered from fonts)
    text      stdlib_text (the source of Python's standard library)

Each is made once and then read at random by `research.data.sets`. To add one, copy `digits.py` and name it in MODULES.
"""

MODULES = {
    "digits": ("research.data.builders.digits", "Digits"),
    "fashion_mnist": ("research.data.builders.fashion_mnist", "FashionMnistIdx"),
    "glyphs": ("research.data.builders.glyphs", "Glyphs"),
    "stdlib_text": ("research.data.builders.stdlib_text", "StdlibText"),
}
