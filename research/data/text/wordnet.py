"""Synonyms of WordNet 3.0 (Princeton), from Debian's package wordnet-base."""

import os
import pathlib
import re
from collections.abc import Mapping

from research.data.readers.packages import Package, package_files

WORDNET = Package(
    client="apt-get",
    name="wordnet-base",
    version="",
    files=tuple(f"usr/share/wordnet/data.{kind}" for kind in ("adj", "adv", "noun", "verb")),
    sha256="4963d305b4dc0b5b7f6db8619825325d87e9c3a6284f9e93797e8c2f1ee2cc21",
)


def synonyms(*, cache=None) -> dict[str, tuple[str, ...]]:
    """Return the synonyms of each lemma, in lower case: the other words of all its synsets, sorted.

    Words of several parts have spaces. Debian's client downloads 6.5 MB into `cache`, by default `downloads` of the
    data folder.
    """
    data_dir = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return of_files(package_files(WORDNET, cache or pathlib.Path(data_dir).expanduser() / "downloads"))


def of_files(files: Mapping[str, bytes]) -> dict[str, tuple[str, ...]]:
    """Read the synonyms of data files of WordNet (wndb(5)): offset, file, kind, number of words in hexadecimal, words.

    A word is followed by a number, and may end in a marker of its position, such as (a).
    """
    found: dict[str, set[str]] = {}
    for content in files.values():
        for line in content.decode().splitlines():
            if line.startswith(" "):
                continue  # the licence
            parts = line.split(" ")
            words = parts[4 : 4 + 2 * int(parts[3], 16) : 2]
            words = {re.sub(r"\(\w+\)$", "", word).replace("_", " ").lower() for word in words}
            for word in words:
                found.setdefault(word, set()).update(words - {word})
    return {word: tuple(sorted(others)) for word, others in found.items() if others}
