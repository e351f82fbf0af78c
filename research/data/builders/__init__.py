"""The data sets that ship with the project, as TFDS builders. Importing one of these modules imports TFDS."""

MODULES = {
    "digits": ("research.data.builders.digits", "Digits"),
    "fashion_mnist": ("research.data.builders.fashion_mnist", "FashionMnistIdx"),
    "glyphs": ("research.data.builders.glyphs", "Glyphs"),
    "stdlib_text": ("research.data.builders.stdlib_text", "StdlibText"),
}
