"""Diamonds: the price of a diamond from its size and quality."""

from research.data.packaged import Elsewhere, PackagedSet, fields
from research.data.packaged._formats import delimited
from research.data.readers.packages import Package

FILE = "plotnine/data/diamonds.csv"


def read(files):
    """Read the table of ggplot2."""
    return {"train": delimited(files[FILE])}


SET = PackagedSet(
    summary="Prices of diamonds (dollars) with weight (carat), cut, colour, clarity and dimensions (mm).",
    kind="table, regression",
    licence="MIT (ggplot2, plotnine)",
    split="none: all records are in train, sorted roughly by price",
    best="none measured",
    homepage="https://ggplot2.tidyverse.org/reference/diamonds.html",
    package=Package(
        client="pip",
        name="plotnine",
        version="0.15.9",
        files=(FILE,),
        sha256="8131bab631b49784158cf7a2416cd0a3fbd42d1f3e1dd26441573ef663e7711f",
    ),
    read=read,
    fields=fields("carat:float cut color clarity depth:float table:float price:int x:float y:float z:float"),
    examples={"train": 53940},
    content="09b306a545405eff",
    consent="no data about people",
    faults=("The records are sorted roughly by price: shuffle them before a split.",),
    openml=Elsewhere(42225, lambda rows: {"train": rows}),
)
