"""Pronunciations by the code of the package g2p-en, with small random weights instead of its own."""

import types

import numpy as np

PACKAGES = ("g2p-en==2.1.0",)
WORDS = ("cat", "a", "zebra", "it's", "well-known", "xylophone", "qqq", "mother")
WIDTH = 8


def values():
    import g2p_en.g2p as package

    # Its dictionary is a download, and its weights are large.
    package.cmudict, package.G2p.load_variables = types.SimpleNamespace(dict=dict), lambda self: None
    made, rng = package.G2p(), np.random.RandomState(0)
    shapes = {"enc_emb": (29, WIDTH), "dec_emb": (74, WIDTH), "fc_w": (74, WIDTH), "fc_b": (74,)}
    for part in ("enc", "dec"):
        shapes |= {f"{part}_w_{name}": (3 * WIDTH, WIDTH) for name in ("ih", "hh")}
        shapes |= {f"{part}_b_{name}": (3 * WIDTH,) for name in ("ih", "hh")}
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    for name, value in weights.items():
        setattr(made, name, value)
    lines = [f"{word} {' '.join(made.predict(word))}" for word in WORDS]
    vocabularies = {"graphemes": made.graphemes, "phonemes": made.phonemes, "lines": lines}
    text = lambda items: np.frombuffer("\n".join(items).encode(), np.uint8)
    stored = {name: text(items) for name, items in vocabularies.items()}
    return stored | {f"weights/{name}": value for name, value in weights.items()}
