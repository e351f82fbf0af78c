"""Host augmentation of texts: easy data augmentation (Wei & Zou 2019, arXiv:1901.11196), and noise in the word order.

    augment = lambda rng, record: prepare.record({**record, "text": eda(rng, record["text"], synonyms=synonyms())})
    batches(train, 64, augment=augment)

`batches` gives each record a generator that is keyed by (seed, epoch, record index). A text is split at white space,
and words are joined by one space. `synonyms` {word in lower case: other words} is, for example, that of
`research.data.text.wordnet`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from research.errors import check_range

Synonyms = Mapping[str, Sequence[str]]


def replace_synonyms(rng: np.random.Generator, words: Sequence[str], *, synonyms: Synonyms, count: int) -> list[str]:
    """Replace up to `count` different words that have synonyms, at all their places, by a random synonym."""
    known = sorted({word for word in words if synonyms.get(word.lower())})
    chosen = rng.choice(len(known), min(count, len(known)), replace=False) if known else ()
    new = {known[i]: _choice(rng, synonyms[known[i].lower()]) for i in chosen}
    return [new.get(word, word) for word in words]


def insert_synonyms(rng: np.random.Generator, words: Sequence[str], *, synonyms: Synonyms, count: int) -> list[str]:
    """Insert `count` times a random synonym of a random word that has one, at a random place."""
    known, words = [word for word in words if synonyms.get(word.lower())], list(words)
    for _ in range(count if known else 0):
        new = _choice(rng, synonyms[_choice(rng, known).lower()])
        words.insert(int(rng.integers(len(words) + 1)), new)
    return words


def swap(rng: np.random.Generator, words: Sequence[str], *, count: int) -> list[str]:
    """Exchange two random words at different places, `count` times."""
    words = list(words)
    for _ in range(count if len(words) > 1 else 0):
        i, j = rng.choice(len(words), 2, replace=False)
        words[i], words[j] = words[j], words[i]
    return words


def delete(rng: np.random.Generator, words: Sequence[str], *, probability: float) -> list[str]:
    """Delete each word with this probability; a random one stays if none would."""
    kept = [word for word, x in zip(words, rng.random(len(words)), strict=True) if x >= probability]
    return kept or ([_choice(rng, words)] if words else [])


def shuffle_near(rng: np.random.Generator, words: Sequence[str], *, distance: float) -> list[str]:
    """Shuffle words so that none moves by more than `distance` places (Lample et al. 2018, arXiv:1711.00043).

    The words are sorted by their place plus a number that is uniform over 0 to distance + 1.
    """
    keys = np.arange(len(words)) + rng.uniform(0, distance + 1, len(words))
    return [words[i] for i in np.argsort(keys, kind="stable")]


def eda(rng: np.random.Generator, text: str, *, synonyms: Synonyms, share: float = 0.1) -> str:
    """Apply one of four changes, chosen at random, to a text: replace, insert, swap or delete (Wei & Zou 2019).

    Of n words, max(1, round(share n)) are replaced, inserted or swapped, or each is deleted with the probability
    `share`. A text without words stays.
    Raises UserError for a share outside 0 to 1.
    """
    check_range("eda", share=(share, 0, 1))
    words = text.split()
    if not words or share == 0:
        return text
    count = max(1, round(share * len(words)))
    match rng.integers(4):
        case 0:
            words = replace_synonyms(rng, words, synonyms=synonyms, count=count)
        case 1:
            words = insert_synonyms(rng, words, synonyms=synonyms, count=count)
        case 2:
            words = swap(rng, words, count=count)
        case _:
            words = delete(rng, words, probability=share)
    return " ".join(words)


def _choice(rng, values):
    return values[int(rng.integers(len(values)))]
