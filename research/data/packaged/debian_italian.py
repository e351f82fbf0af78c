"""Debian in Italian: sentences and paragraphs of the descriptions of its packages, translated by volunteers."""

from research.data.packaged import PackagedSet, fields
from research.data.packaged._descriptions import HOMEPAGE, LICENCE, PACKAGE, descriptions, part_of


def read(files):
    """Read pairs of titles, and of paragraphs if both descriptions have as many. An English text occurs once."""
    italian = {md5: [title, *paragraphs] for md5, title, paragraphs in descriptions(files, "it")}
    splits, seen = {"train": [], "validation": [], "test": []}, set()
    for md5, title, paragraphs in descriptions(files, "en"):
        translated = italian.get(md5, [])
        texts = [title, *paragraphs]
        for pair in zip(texts, translated, strict=True) if len(texts) == len(translated) else ():
            if all(pair) and pair[0] not in seen:
                seen.add(pair[0])
                splits[part_of(pair[0])].append(pair)
    return splits


SET = PackagedSet(
    summary="Titles and paragraphs of the descriptions of Debian's packages, in English and in Italian.",
    kind="text to text",
    licence=LICENCE,
    split="ours: by the CRC32 of the English text, a fiftieth each for validation and test",
    best="BLEU 24.7 by the nearest training text, 10.7 by copying; 3 to 40 words, 1,000 tests (measured)",
    homepage=HOMEPAGE,
    package=PACKAGE,
    read=read,
    fields=fields("english italian"),
    examples={"train": 105238, "validation": 2123, "test": 2220},
    content="",
    faults=(
        "Names and commands are the same in both languages.",
        "Many descriptions follow a template: a fifth of the test texts have a near copy in train.",
        "The texts change with Debian's releases.",
    ),
)
