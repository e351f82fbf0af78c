"""Shuttle: the state of a radiator of the space shuttle, with very rare classes."""

from research.data.packaged import PackagedSet, fields
from research.data.packaged._formats import cut, r_table
from research.data.readers.packages import Package

FILE = "usr/lib/R/site-library/mlbench/data/Shuttle.rda"


def read(files):
    """Read the table in the order of Statlog."""
    return cut(r_table(files[FILE], "Shuttle"), 43500)


SET = PackagedSet(
    summary="Nine sensors of the space shuttle and the state of a radiator: 79 % of one class, 10 records of another.",
    kind="table, 7 classes, imbalanced",
    licence="CC BY 4.0 (UCI); package GPL-2",
    split="of Statlog, the first 43,500 records",
    best="rare states: average precision 0.994 with gradient boosting (experiments/tabular/rare_class.py, measured)",
    homepage="https://archive.ics.uci.edu/dataset/148/statlog+shuttle",
    package=Package(
        client="apt-get",
        name="r-cran-mlbench",
        version="",
        files=(FILE,),
        sha256="5c9b3922c00572bf4f76a00e9f0475cde684eb5832feff848bc5f47c6be8c87b",
    ),
    read=read,
    fields=fields(" ".join([*(f"V{i}:int" for i in range(1, 10)), "label"])),
    examples={"train": 43500, "test": 14500},
    content="4f0dffa62022dab5",
    consent="no data about people",
    faults=("79 % of the records are of one class, and 10 of another.",),
)
