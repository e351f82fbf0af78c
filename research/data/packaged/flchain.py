"""Free light chains: the survival of people over 50 after a blood test."""

from research.data.packaged import PackagedSet, fields
from research.data.packaged._formats import arff
from research.data.readers.packages import Package

FILE = "sksurv/datasets/data/flchain.arff"


def read(files):
    """Read the table of R's package survival; `chapter`, the cause of death, reveals the outcome and is left out."""
    return {"train": [row[:-1] for row in arff(files[FILE])]}


SET = PackagedSet(
    summary="Free light chains in the blood of 7,874 people, and their days until death or the end of the study.",
    kind="table, survival",
    licence="LGPL (R package survival); package GPL-3",
    split="none: all records are in train",
    best="C-index 0.803 with a network, 0.800 with Cox regression (experiments/tabular/survival.py, measured)",
    homepage="https://stat.ethz.ch/R-manual/R-devel/library/survival/html/flchain.html",
    package=Package(
        client="pip",
        name="scikit-survival",
        version="0.28.0",
        files=(FILE,),
        sha256="724da81438ba64747e65e027a1f52421976b4177842869ecc84af328d792a969",
    ),
    read=read,
    fields=fields(
        "age:int sex sample_yr:int kappa:float lambda:float flc_grp:int creatinine:float mgus futime:int death"
    ),
    examples={"train": 7874},
    content="18280424fc8545b2",
    missing="?",
    faults=("The file's column `chapter`, the cause of death, reveals the outcome; it is left out.",),
)
