"""Sentences of words as numbers: vocabularies of words and characters, and packed rows with a tag for every word."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from research.data.readers.arrays import Arrays, arrays
from research.data.text.pack import pack_whole
from research.errors import UserError, unknown

UNKNOWN = 1  # the number of a word or character that the vocabulary lacks; 0 is padding


class Words(NamedTuple):
    """The vocabularies of training sentences: numbers of words and characters, from 2, and all words that occur."""

    words: Mapping[str, int]
    characters: Mapping[str, int]
    seen: frozenset[str]


class TaggedRows(NamedTuple):
    """Packed sentences: the records, and the words as text [rows][time], "" for padding."""

    data: Arrays
    text: list[list[str]]


def fit_words(sentences: Iterable[Sequence[str]], *, least: int = 2) -> Words:
    """Return the Words of training sentences. Words that occur less than `least` times are unknown.

    A model learns from these rare words how to treat the unknown words of a test.
    """
    counts = Counter(word for sentence in sentences for word in sentence)
    frequent = sorted(word for word, count in counts.items() if count >= least)
    numbered = lambda items: {item: number for number, item in enumerate(items, UNKNOWN + 1)}
    return Words(numbered(frequent), numbered(sorted({c for word in counts for c in word})), frozenset(counts))


def tagged_rows(
    sentences: Sequence[Sequence[str]],
    tags: Mapping[str, Sequence[Sequence[str]]],
    *,
    vocabulary: Words,
    names: Mapping[str, Sequence[str]],
    length: int,
    letters: int = 16,
) -> TaggedRows:
    """Pack sentences into rows of `length` words; longer sentences are split.

    `tags` are fields of the records by name, each with a tag per word; `names` has the tags of each field in the order
    of their numbers. The records have, for each position of a row:

        words         i32, UNKNOWN if the vocabulary lacks the word
        characters    i32 [letters], of the first and the last half of a longer word
        segments      i32, the number of the sentence in its row from 1, 0 for padding
        known         bool, whether the word is in the training sentences
        and each field of `tags`, i32, -1 for padding

    Raises UserError for a tag that is not in `names`, and for a sentence whose numbers of words and tags differ.
    """
    ends = np.cumsum([len(sentence) for sentence in sentences])
    packed = pack_whole([np.arange(end - len(s), end) for end, s in zip(ends, sentences, strict=True)], length).columns
    index, inside = packed["tokens"], packed["segments"] > 0
    flat = [word for sentence in sentences for word in sentence]
    columns = {"words": np.array([vocabulary.words.get(word, UNKNOWN) for word in flat], np.int32)}
    spelled = {word: _spelled(word, vocabulary.characters, letters) for word in set(flat)}
    columns["characters"] = np.array([spelled[word] for word in flat], np.int32)
    columns["known"] = np.array([word in vocabulary.seen for word in flat])
    rows = {
        name: values[index] * inside.reshape(*inside.shape, *[1] * (values.ndim - 1))
        for name, values in columns.items()
    }
    for name, values in tags.items():
        numbers = {tag: number for number, tag in enumerate(names[name])}
        if [len(x) for x in values] != [len(x) for x in sentences]:
            raise UserError(f"the field {name!r} has other numbers of tags than the sentences have words.")
        flat_tags = [tag for sentence in values for tag in sentence]
        if wrong := set(flat_tags) - numbers.keys():
            raise unknown(f"value of {name}", min(wrong), numbers)
        rows[name] = np.where(inside, np.array([numbers[tag] for tag in flat_tags], np.int32)[index], -1)
    text = [[flat[i] if ok else "" for i, ok in zip(*row, strict=True)] for row in zip(index, inside, strict=True)]
    return TaggedRows(arrays(segments=packed["segments"], **rows), text)


def _spelled(word, characters, letters):
    half = letters // 2
    shown = word if len(word) <= letters else word[:half] + word[half - letters :]
    return [characters.get(c, UNKNOWN) for c in shown] + [0] * (letters - len(shown))
