"""Pronounce English words: sequence to sequence with attention on CMUdict, beside the network of g2p-en.

The encoder-decoder of Bahdanau et al. 2015 (arXiv:1409.0473) reads letters and writes phonemes with their stress. A
word counts as right if it equals one of its pronunciations in the dictionary; the networks learn the first one. A
twentieth of the words each is for the test and for validation; a possessive or another hyphenation of a word is in the
same part. The package g2p-en contains a network without attention, which was trained on most of these test words.
`python -m research prepare cmudict` gets the data.

    python -m research train experiments/language/pronunciation.py
    python -m research train experiments/language/pronunciation.py --network plain
    python -m research train experiments/language/pronunciation.py --network g2p_en

Expected on the test words (ours): wrong phonemes, wrong words, and words that are wrong if stress does not count.

                            phonemes   words     without stress
    attention, one seed     12.1 %     43.3 %    38.1 %
    g2p-en                  10.0 %     30.7 %    26.6 %

The network sees each training word twice. Time: 3.5 minutes of CPU time.
"""

import re
import zlib
from typing import Literal

import numpy as np
import optax

from research.core import Eval
from research.data import arrays, column, eval_batches, tfds_source
from research.data.sampling.by_length import by_length
from research.data.text.pairs import pair_rows
from research.duration import percent
from research.experiment import Best, Claim, Experiment
from research.metrics.edits import mismatch_rate, word_error_rate
from research.metrics.texts import text_scores
from research.metrics.translation import decode_pairs, measure_pairs
from research.model import from_nnx
from research.models.seq2seq import AdditiveSeq2Seq, PlainSeq2Seq
from research.objectives.language import translation
from research.optim.schedules import warmup_cosine
from research.weights.g2p_en import GRAPHEMES, PHONEMES, g2p_en

LENGTHS = (36, 36)  # letters and phonemes of a row; the longest word has 34
MOST = 4  # pronunciations of a word
BEGIN, END, WORD_END = PHONEMES.index("<s>"), PHONEMES.index("</s>"), GRAPHEMES.index("</s>")


def experiment(
    *,
    network: Literal["attention", "plain", "g2p_en"] = "attention",
    width: int = 128,
    dropout: float = 0.2,
    learning_rate: float = 2e-3,
    batch_size: int = 48,
    epochs: int = 2,
    beams: int = 1,
) -> Experiment:
    """Return the complete experiment, from data to claims.

    network: plain has no attention; g2p_en is the plain network with the weights of the package, which stay as they are
    beams: prefixes that the search keeps; 1 takes the most likely phoneme each time
    """
    known = pronunciations(tfds_source("cmudict", "all"))
    given = network == "g2p_en"
    letters = GRAPHEMES if given else (*GRAPHEMES, *sorted({c for word in known["train"] for c in word} - {*GRAPHEMES}))
    rows = {part: encoded(found, letters, 1 if part == "train" else MOST) for part, found in known.items()}
    sizes = dict(source_vocabulary=len(letters), vocabulary=len(PHONEMES), dropout=dropout)
    if network == "attention":
        model = from_nnx(lambda rngs: AdditiveSeq2Seq(**sizes, embedding=64, width=width, maxout=width, rngs=rngs))
    else:
        model = from_nnx(lambda rngs: PlainSeq2Seq(**sizes, width=256 if given else width, rngs=rngs))
    train = rows["train"]
    longest = np.maximum((train["source"] > 0).sum(1), (train["target"] > 0).sum(1))
    data, names = arrays(source=train["source"], target=train["target"]), ("source", "target")
    source = by_length(data, batch_size, fields=names, lengths=longest, buckets=(8, 10, 12, 16, LENGTHS[0]))
    steps = 1 if given else source.steps(epochs)
    tests = {part: eval_batches(arrays(**rows[part]), 256) for part in ("valid", "test")}
    rates = dict(per=word_error_rate, wer=mismatch_rate, wer_unstressed=without_stress)
    finish = text_scores(written(PHONEMES, " "), written(letters, ""), **rates)
    decode = decode_pairs(begin=BEGIN, end=END, count=LENGTHS[1] - 2, beams=beams, references="references")
    return Experiment(
        init=model.init,
        apply=model.apply,
        init_from=(lambda params, stats: (g2p_en(), stats)) if given else None,
        loss=translation(model),
        learning_rate=warmup_cosine(0.0 if given else learning_rate, steps=steps, warmup=steps // 20),
        optimizer=lambda rate: optax.chain(optax.clip_by_global_norm(5.0), optax.adam(rate)),
        source=source,
        steps=steps,
        evals={
            "valid": Eval(tests["valid"], measure_pairs, every=percent(20)),
            "valid_words": Eval(tests["valid"], decode, finish=finish),
            "test": Eval(tests["test"], decode, finish=finish),
        },
        best=Best("valid/loss", mode="min"),
        claims=(
            Claim("test/wer", at_most=0.44, reference="ours: 0.447 of the validation words with a batch of 128"),
            Claim("test/per", at_most=0.125, reference="ours: 0.127 of the validation phonemes with a batch of 128"),
        )
        if network == "attention"
        else (),
    )


def pronunciations(data) -> dict[str, dict[str, list[list[str]]]]:
    """Return {part: {word: its pronunciations}}; words that differ in marks or a possessive only are in one part."""
    found: dict = {"train": {}, "valid": {}, "test": {}}
    for word, phonemes in zip(column(data, "word").tolist(), column(data, "phonemes").tolist(), strict=True):
        place = zlib.crc32(re.sub(r"'s?$|[-'.]", "", word).encode()) % 20
        found[{0: "test", 1: "valid"}.get(place, "train")].setdefault(word, []).append(phonemes.split())
    return found


def encoded(found: dict, letters: tuple[str, ...], most: int = 1) -> dict[str, np.ndarray]:
    """Return the rows of words: source, target (the first pronunciation) and references (the first `most`)."""
    numbers, phones = ({item: i for i, item in enumerate(items)} for items in (letters, PHONEMES))
    spelled = [[numbers.get(letter, 1) for letter in word] for word in found]
    options = dict(begin=BEGIN, end=END, source_end=WORD_END, lengths=LENGTHS)
    said = [[[phones[phone] for phone in one] for one in every] for every in found.values()]
    rows = [pair_rows(spelled, [every[min(k, len(every) - 1)] for every in said], **options) for k in range(most)]
    return {**rows[0], "references": np.stack([row["target"] for row in rows], 1)}


def written(items: tuple[str, ...], gap: str):
    """Return the function that writes a row of token ids as text, without special tokens."""
    return lambda ids: gap.join(items[i] for i in ids if items[i][0] != "<")


def without_stress(hypotheses, references):
    """Return the share of words that are wrong if stress does not count."""
    bare = lambda text: re.sub("[012]", "", text)
    return mismatch_rate([bare(text) for text in hypotheses], [[bare(text) for text in texts] for texts in references])
