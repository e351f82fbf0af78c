"""Letter recognition: which capital letter an image shows, from 16 numbers about its pixels."""

from research.data.packaged import PackagedSet, fields
from research.data.packaged._formats import cut, r_table
from research.data.readers.packages import Package

FILE = "usr/lib/R/site-library/mlbench/data/LetterRecognition.rda"


def read(files):
    """Read the table in the order of UCI."""
    return cut(r_table(files[FILE], "LetterRecognition"), 16000)


SET = PackagedSet(
    summary="Capital letters of 20 distorted fonts, as 16 integers (0 to 15) about the pixels of each image.",
    kind="table, 26 classes",
    licence="CC BY 4.0 (UCI); package GPL-2",
    split="the first 16,000 records, as in the paper of 1991",
    best="test accuracy 94.3 % with 3 nearest neighbours (scikit-learn, measured)",
    homepage="https://archive.ics.uci.edu/dataset/59/letter+recognition",
    package=Package(
        client="apt-get",
        name="r-cran-mlbench",
        version="",
        files=(FILE,),
        sha256="db5a2b6898593639e1f252a4f005b0bedc858aac0ddb5de83da0bd540345b4c6",
    ),
    read=read,
    fields=fields(
        "letter x_box:int y_box:int width:int high:int onpix:int x_bar:int y_bar:int x2bar:int y2bar:int xybar:int "
        "x2ybr:int xy2br:int x_ege:int xegvy:int y_ege:int yegvx:int"
    ),
    examples={"train": 16000, "test": 4000},
    content="523748f2e41e5300",
    consent="no data about people",
)
