"""DNA: splice junctions of primates, the Statlog version with 60 bases of 3 bits."""

from research.data.packaged import PackagedSet, fields
from research.data.packaged._formats import cut, r_table
from research.data.readers.packages import Package

FILE = "usr/lib/R/site-library/mlbench/data/DNA.rda"


def read(files):
    """Read the table in the order of Statlog."""
    return cut(r_table(files[FILE], "DNA"), 2000)


SET = PackagedSet(
    summary="Splice junctions in DNA, 60 bases of 3 bits each: the middle is a donor (ei), an acceptor (ie) or none.",
    kind="table, 3 classes",
    licence="CC BY 4.0 (UCI); package GPL-2",
    split="of Statlog, the first 2,000 records",
    best="test accuracy 95.9 % with radial basis functions (Statlog), and with gradient boosting (measured)",
    homepage="https://archive.ics.uci.edu/dataset/69/molecular+biology+splice+junction+gene+sequences",
    package=Package(
        client="apt-get",
        name="r-cran-mlbench",
        version="",
        files=(FILE,),
        sha256="6b6081c286e481736a66dfb5427bc43df3f9d41ffc251d066d2f04b703c524de",
    ),
    read=read,
    fields=fields(" ".join([*(f"V{i}:int" for i in range(1, 181)), "label"])),
    examples={"train": 2000, "test": 1186},
    content="41aed9546e6009f8",
    consent="no data about people",
)
