"""Votes: the party of a member of the US Congress of 1984, from 16 votes."""

from research.data.packaged import Elsewhere, PackagedSet, fields
from research.data.packaged._formats import r_table
from research.data.readers.packages import Package

FILE = "usr/lib/R/site-library/mlbench/data/HouseVotes84.rda"


def read(files):
    """Read the table in the order of UCI."""
    return {"train": r_table(files[FILE], "HouseVotes84")}


def from_openml(rows):
    """Return the split: OpenML has the party last."""
    return {"train": [[row[-1], *row[:-1]] for row in rows]}


SET = PackagedSet(
    summary="Sixteen votes (y, n or missing) of members of the US House of Representatives in 1984, and their party.",
    kind="table, 2 classes, missing values",
    licence="CC BY 4.0 (UCI); package GPL-2",
    split="none: all records are in train",
    best="accuracy 96.3 % with gradient boosting, 25 % held out (scikit-learn, measured)",
    homepage="https://archive.ics.uci.edu/dataset/105/congressional+voting+records",
    package=Package(
        client="apt-get",
        name="r-cran-mlbench",
        version="",
        files=(FILE,),
        sha256="4181705e8102d8eab842b92046eaba432e34e209f1e4e72808284f7a4bdc2dc1",
    ),
    read=read,
    fields=fields(" ".join(["party", *(f"V{i}" for i in range(1, 17))])),
    examples={"train": 435},
    content="cdb02f350504bb1f",
    consent="public votes of members of Congress",
    faults=("A missing vote is neither yes nor no; it is not unknown.",),
    openml=Elsewhere(56, from_openml),
)
