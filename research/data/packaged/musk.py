"""Musk: is a shape of a molecule a musk, from 166 distances?"""

from research.data.packaged import PackagedSet, fields
from research.data.packaged._formats import r_table
from research.data.readers.packages import Package

FILE = "usr/lib/R/site-library/kernlab/data/musk.rda"


def read(files):
    """Read the table."""
    return {"train": r_table(files[FILE], "musk")}


SET = PackagedSet(
    summary="Shapes of molecules as 166 distances, musk or not. The package does not name the molecule of a shape.",
    kind="table, 2 classes",
    licence="CC BY 4.0 (UCI); package GPL-2",
    split="none: all records are in train",
    best="none measured",
    homepage="https://archive.ics.uci.edu/dataset/74/musk+version+1",
    package=Package(
        client="apt-get",
        name="r-cran-kernlab",
        version="",
        files=(FILE,),
        sha256="4a25d97ea2f43a438a77a09e3145c545dde001e89b02743bd7d678c26d93dced",
    ),
    read=read,
    fields=fields(" ".join([*(f"V{i}:int" for i in range(1, 167)), "label"])),
    examples={"train": 476},
    content="5fa95cf8d7e182f3",
    consent="no data about people",
    faults=("Several shapes belong to one molecule, which the package does not name: a random split leaks.",),
)
