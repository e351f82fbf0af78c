"""Soybean: which of 19 diseases a plant has, with many missing values."""

from research.data.packaged import PackagedSet, fields
from research.data.packaged._formats import r_table
from research.data.readers.packages import Package

FILE = "usr/lib/R/site-library/mlbench/data/Soybean.rda"


def read(files):
    """Read the table."""
    return {"train": r_table(files[FILE], "Soybean")}


SET = PackagedSet(
    summary="Diseases of soybean plants from 35 categories, many of them missing; the categories are numbered from 0.",
    kind="table, 19 classes, missing values",
    licence="CC BY 4.0 (UCI); package GPL-2",
    split="none: all records are in train",
    best="accuracy 95.3 % with logistic regression (experiments/tabular/soybean.py, measured)",
    homepage="https://archive.ics.uci.edu/dataset/90/soybean+large",
    package=Package(
        client="apt-get",
        name="r-cran-mlbench",
        version="",
        files=(FILE,),
        sha256="0209e66c3323ffaecd04bb20b9c77049fbac728c7a90d90998812276a3e757a5",
    ),
    read=read,
    fields=fields(
        "label date plant_stand precip temp hail crop_hist area_dam sever seed_tmt germ plant_growth leaves leaf_halo "
        "leaf_marg leaf_size leaf_shread leaf_malf leaf_mild stem lodging stem_cankers canker_lesion fruiting_bodies "
        "ext_decay mycelium int_discolor sclerotia fruit_pods fruit_spots seed mold_growth seed_discolor seed_size "
        "shriveling roots"
    ),
    examples={"train": 683},
    content="8a53e7c9f2576e08",
    consent="no data about people",
    faults=("2,337 cells are missing.",),
)
