"""The suffix stripping of Porter (1980), with the changes of NLTK, which rouge-score uses."""

from __future__ import annotations

import functools

VOWELS = frozenset("aeiou")
# Whole words that the rules would change wrongly.
IRREGULAR = {
    "skies": "sky", "dying": "die", "lying": "lie", "tying": "tie", "innings": "inning", "outings": "outing",
    "cannings": "canning",
} | {word: word for word in "sky news inning outing canning howe proceed exceed succeed".split()}  # fmt: skip
# (suffix, replacement); of a step, the first suffix that fits is the only one that is tried.
PLURALS = [("sses", "ss"), ("ies", "i"), ("ss", "ss"), ("s", "")]
DOUBLE_SUFFIXES = [
    ("ational", "ate"), ("tional", "tion"), ("enci", "ence"), ("anci", "ance"), ("izer", "ize"), ("bli", "ble"),
    ("alli", "al"), ("entli", "ent"), ("eli", "e"), ("ousli", "ous"), ("ization", "ize"), ("ation", "ate"),
    ("ator", "ate"), ("alism", "al"), ("iveness", "ive"), ("fulness", "ful"), ("ousness", "ous"), ("aliti", "al"),
    ("iviti", "ive"), ("biliti", "ble"), ("fulli", "ful"),
]  # fmt: skip
ENDINGS = [
    ("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"), ("ful", ""), ("ness", ""),
]  # fmt: skip
SUFFIXES = "al ance ence er ic able ible ant ement ment ent ion ou ism ate iti ous ive ize".split()


@functools.lru_cache(maxsize=100_000)
def stem_porter(word: str) -> str:
    """Return the stem of a lower-case English word, for example "run" for "running". A stem may not be a word."""
    if word in IRREGULAR:
        return IRREGULAR[word]
    if len(word) <= 2:
        return word
    word = _final_y(_participle(_plural(word)))
    word = _long_suffix(_replaced(_double_suffix(word), ENDINGS))
    return _final_letter(word)


def measure(stem: str) -> int:
    """Return Porter's m: how often a consonant follows a vowel."""
    kinds = [_is_vowel(stem, i) for i in range(len(stem))]
    return sum(a and not b for a, b in zip(kinds, kinds[1:], strict=False))


def _is_vowel(word, i):
    vowel = False  # y is a vowel after a consonant, thus it depends on all letters before it
    for k in range(i + 1):
        vowel = word[k] in VOWELS or (word[k] == "y" and k > 0 and not vowel)
    return vowel


def _has_vowel(stem):
    return any(_is_vowel(stem, i) for i in range(len(stem)))


def _ends_short(word):
    """Return whether a word ends in consonant, vowel, consonant other than w, x, y; or is a vowel and a consonant."""
    kinds = [_is_vowel(word, i) for i in range(len(word))]
    if len(word) == 2:
        return kinds == [True, False]
    return len(word) > 2 and kinds[-3:] == [False, True, False] and word[-1] not in "wxy"


def _replaced(word, rules, least=1):
    for suffix, replacement in rules:
        if word.endswith(suffix):
            stem = word.removesuffix(suffix)
            return stem + replacement if measure(stem) >= least else word
    return word


def _plural(word):
    if word.endswith("ies") and len(word) == 4:
        return word[:-1]
    return _replaced(word, PLURALS, least=0)


def _participle(word):
    if word.endswith("ied"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("eed"):
        return word[:-1] if measure(word[:-3]) > 0 else word
    stem = word.removesuffix("ed") if word.endswith("ed") else word.removesuffix("ing")
    if stem == word or not _has_vowel(stem):
        return word
    if stem.endswith(("at", "bl", "iz")):
        return stem + "e"
    if len(stem) > 1 and stem[-1] == stem[-2] and not _is_vowel(stem, len(stem) - 1):
        return stem if stem[-1] in "lsz" else stem[:-1]
    return stem + "e" if measure(stem) == 1 and _ends_short(stem) else stem


def _final_y(word):
    if word.endswith("y") and len(word) > 2 and not _is_vowel(word, len(word) - 2):
        return word[:-1] + "i"
    return word


def _double_suffix(word):
    if word.endswith("alli") and measure(word[:-4]) > 0:
        return _double_suffix(word[:-2])
    if word.endswith("logi"):
        return word[:-1] if measure(word[:-3]) > 0 else word
    return _replaced(word, DOUBLE_SUFFIXES)


def _long_suffix(word):
    for suffix in SUFFIXES:
        if word.endswith(suffix):
            stem = word.removesuffix(suffix)
            return stem if measure(stem) > 1 and (suffix != "ion" or stem.endswith(("s", "t"))) else word
    return word


def _final_letter(word):
    if word.endswith("e"):
        stem = word[:-1]
        if measure(stem) > 1 or (measure(stem) == 1 and not _ends_short(stem)):
            word = stem
    return word[:-1] if word.endswith("ll") and measure(word[:-1]) > 1 else word
