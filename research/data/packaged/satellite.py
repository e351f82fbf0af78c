"""Satellite: the land cover of a pixel of Landsat, from 3 x 3 pixels of 4 bands."""

from research.data.packaged import PackagedSet, fields
from research.data.packaged._formats import cut, r_table
from research.data.readers.packages import Package

FILE = "usr/lib/R/site-library/mlbench/data/Satellite.rda"


def read(files):
    """Read the table in the order of Statlog."""
    return cut(r_table(files[FILE], "Satellite"), 4435)


SET = PackagedSet(
    summary="Land cover of the middle of 3 x 3 pixels in 4 bands of Landsat; x_1 to x_4 are the first pixel.",
    kind="table, 6 classes",
    licence="CC BY 4.0 (UCI); package GPL-2",
    split="of Statlog, the first 4,435 records",
    best="test accuracy 91.1 % with gradient boosting (scikit-learn, measured)",
    homepage="https://archive.ics.uci.edu/dataset/146/statlog+landsat+satellite",
    package=Package(
        client="apt-get",
        name="r-cran-mlbench",
        version="",
        files=(FILE,),
        sha256="09e9e2eed1bfa9c330bf3b00c4d7dabdc9816d8068c1e1780e976a9c020647da",
    ),
    read=read,
    fields=fields(" ".join([*(f"x_{i}:int" for i in range(1, 37)), "label"])),
    examples={"train": 4435, "test": 2000},
    content="94c8ff443b32d118",
    consent="no data about people",
    faults=("Neighbouring pixels may be in both parts of the split.",),
)
