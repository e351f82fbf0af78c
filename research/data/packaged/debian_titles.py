"""The descriptions of Debian's packages with their titles, as a summary of one line."""

from research.data.packaged import PackagedSet, fields
from research.data.packaged._descriptions import HOMEPAGE, LICENCE, PACKAGE, descriptions, part_of


def read(files):
    """Read (description, title); descriptions with the same first paragraph, such as those of one source, once."""
    splits, seen = {"train": [], "validation": [], "test": []}, set()
    for _, title, paragraphs in descriptions(files, "en"):
        first = paragraphs[0]
        if title and first and first not in seen:
            seen.add(first)
            splits[part_of(first)].append((" ".join(filter(None, paragraphs)), title))
    return splits


SET = PackagedSet(
    summary="Descriptions of Debian's packages, and the title of each: a summary of a few words.",
    kind="text to text",
    licence=LICENCE,
    split="ours: by the CRC32 of the first paragraph, a fiftieth each for validation and test",
    best="none known",
    homepage=HOMEPAGE,
    package=PACKAGE,
    read=read,
    fields=fields("description title"),
    examples={"train": 38789, "validation": 781, "test": 812},
    content="",
    faults=("Packages of one source resemble each other.", "The texts change with Debian's releases."),
)
