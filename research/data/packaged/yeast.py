"""Yeast: the functional groups of genes, several for each, from expression and phylogenetic profiles."""

from research.data.packaged import Elsewhere, PackagedSet, fields
from research.data.packaged._formats import delimited
from research.data.readers.packages import Package

FILE = "river/datasets/yeast.csv.gz"
LABELS = tuple(f"Class{i}" for i in range(1, 15))


def read(files):
    """Read the file: 103 numbers and 14 labels, 0 or 1, per gene."""
    return {"train": delimited(files[FILE])}


def from_openml(rows):
    """Return the split: labels are TRUE and FALSE at OpenML."""
    return {"train": [[*row[: -len(LABELS)], *(label == "TRUE" for label in row[-len(LABELS) :])] for row in rows]}


SET = PackagedSet(
    summary="Yeast genes: 103 numbers of expression and phylogeny, and 14 functional groups, several for each gene.",
    kind="table, 14 labels",
    licence="not stated (MULAN, Elisseeff and Weston 2001); package BSD-3-Clause",
    split="none: all records are in train",
    best="F1 micro 0.661 with a network, 0.648 with logistic regression (experiments/tabular/yeast.py, measured)",
    homepage="https://mulan.sourceforge.net/datasets-mlc.html",
    package=Package(
        client="pip",
        name="river",
        version="0.26.1",
        files=(FILE,),
        sha256="94e27c46d82801e4d78bebc7a86a0a731796ba851245942726ce8e52b5de9b2c",
    ),
    read=read,
    fields=fields(" ".join([*(f"Att{i}:float" for i in range(1, 104)), *(f"{label}:int" for label in LABELS)])),
    examples={"train": 2417},
    content="44b9b63a33df6c28",
    consent="no data about people",
    openml=Elsewhere(40597, from_openml),
)
