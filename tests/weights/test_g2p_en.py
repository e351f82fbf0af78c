"""The network of g2p-en against the package's own code, on small random weights."""

import jax
import numpy as np

from research.core import Trained
from research.decoding.encoder_decoder import translate
from research.model import from_nnx
from research.models.seq2seq import PlainSeq2Seq
from research.weights import g2p_en
from tests.truth import load

TRUTH = load("g2p_en")
ARRAYS = {name.removeprefix("weights/"): x for name, x in TRUTH.items() if name.startswith("weights/")}
LINES, GRAPHEMES, PHONEMES = (TRUTH[name].tobytes().decode().split("\n") for name in ("lines", "graphemes", "phonemes"))


def test_pronunciations_are_those_of_the_package():
    assert list(g2p_en.GRAPHEMES) == GRAPHEMES and list(g2p_en.PHONEMES) == PHONEMES
    model = from_nnx(lambda rngs: PlainSeq2Seq(width=8, rngs=rngs))
    words, said = zip(*(line.split(" ", 1) for line in LINES), strict=True)
    source = np.zeros((len(words), 12), int)
    for row, word in zip(source, words, strict=True):
        row[: len(word) + 1] = [*[GRAPHEMES.index(letter) if letter in GRAPHEMES else 1 for letter in word], 2]
    run = jax.jit(lambda trained: translate(trained, source, begin=2, end=3, count=20))
    found = run(Trained(model.apply, g2p_en.params_of(ARRAYS), {}))
    assert len(set(said)) > 5
    for tokens, size, expected in zip(found.tokens, found.lengths, said, strict=True):
        assert " ".join(PHONEMES[i] for i in tokens[:size]) == expected


def test_the_weights_are_read_from_the_package(tmp_path, monkeypatch):
    np.savez(tmp_path / "weights.npz", **ARRAYS)
    files = {"g2p_en/checkpoint20.npz": (tmp_path / "weights.npz").read_bytes()}
    monkeypatch.setattr(g2p_en, "package_files", lambda package, cache: files)
    found = g2p_en.g2p_en(cache=tmp_path)
    shapes = jax.eval_shape(from_nnx(lambda rngs: PlainSeq2Seq(width=8, rngs=rngs)).init, jax.random.key(0))[0]
    assert jax.tree.map(np.shape, found) == jax.tree.map(np.shape, shapes)
