"""One function, many engines: the same bytes, exact restarts, and errors that name the record."""

import dataclasses
import functools
import itertools
import os
import signal
import subprocess
import sys
import threading
import warnings

import numpy as np
import pandas
import pytest

from research.data import arrays, fit, indexed, subset, table
from research.data.clean import missing, outliers
from research.data.engines import local, map_records, parts
from research.data.features import encode, scale, smooth
from research.data.readers.blocks import BYTES
from research.data.readers.indexed import INDEX
from research.data.schema import Column
from research.errors import UserError
from research.files import read_json

HERE = local(workers=1)


def doubled(record):
    return {"x": record["x"] * 2, "text": f"no {record['x']}"}


def source(count):
    return arrays(x=np.arange(count, dtype=np.int64))


def stream(count):
    return ({"x": i} for i in range(count))


def content(folder):
    """All files of a folder, with their bytes."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("made", [source, stream, lambda n: [{"x": i} for i in range(n)]])
def test_the_records_keep_their_order_and_are_an_indexed_set(tmp_path, made):
    data = map_records(doubled, made(103), tmp_path / "out", HERE, part_size=10)
    assert len(data) == len(indexed(tmp_path / "out")) == 103 and data.fields == ("text", "x")
    for i in (0, 9, 10, 57, 102):
        assert data[i] == {"x": 2 * i, "text": f"no {i}"}
    assert [record["x"] for record in data.__getitems__([102, 3, 50])] == [204, 6, 100]
    assert len(list((tmp_path / "out").glob("part-*"))) == 11 and [f.name for f in tmp_path.iterdir()] == ["out"]
    assert data.content_fingerprint() == indexed(tmp_path / "out").content_fingerprint()


def test_workers_give_the_same_bytes(tmp_path):
    for name, engine in (("one", HERE), ("two", local(workers=2))):
        map_records(lambda record: {"y": np.sqrt(record["x"])}, source(200), tmp_path / name, engine, part_size=16)
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_the_same_call_opens_the_result_and_another_is_refused(tmp_path):
    calls = []

    def fn(record):
        calls.append(record)
        return record

    first = map_records(fn, source(5), tmp_path / "out", HERE)
    again = map_records(fn, source(5), tmp_path / "out", HERE)
    assert len(calls) == 5 and again.content == first.content
    for other in ((doubled, source(5)), (fn, source(6)), (fn, arrays(x=np.arange(5) + 1))):
        with pytest.raises(UserError, match="was made of another source or function"):
            map_records(*other, tmp_path / "out", HERE)
    with pytest.raises(UserError, match="was made of another"):
        map_records(fn, source(5), tmp_path / "out", HERE, part_size=2)
    with pytest.raises(UserError, match="was made of another"):
        map_records(fn, source(5), tmp_path / "out", HERE, classes=("a", "b"))
    map_records(fn, stream(5), tmp_path / "stream", HERE)
    assert len(map_records(fn, stream(5), tmp_path / "stream", HERE)) == 5 and len(calls) == 10
    with pytest.raises(UserError, match="was made of another source or function"):
        map_records(fn, stream(6), tmp_path / "stream", HERE)


def test_a_list_is_several_records_or_none(tmp_path):
    fn = lambda record: [{"y": record["x"]}] * (record["x"] % 3)
    data = map_records(fn, source(9), tmp_path / "out", HERE, part_size=1)
    assert [data[i]["y"] for i in range(len(data))] == [1, 2, 2, 4, 5, 5, 7, 8, 8]
    assert len(list((tmp_path / "out").glob("part-*"))) == 6, "a part without records is no file"


KILLED = """
import os, sys, time
from research.data.engines import local, map_records
def fn(record):
    if record["x"] == 60 and "PAUSE" in os.environ:
        print("going", flush=True)
        time.sleep(60)
    return {"y": record["x"] ** 2}
records = [{"x": i} for i in range(100)]
source = iter(records) if sys.argv[3] == "stream" else records
map_records(fn, source, sys.argv[1], local(workers=int(sys.argv[2])), part_size=8)
"""


@pytest.mark.parametrize("workers, form", [("1", "stream"), ("2", "stream"), ("1", "data")])
def test_a_killed_call_continues_to_the_same_bytes(tmp_path, workers, form):
    (tmp_path / "script.py").write_text(KILLED)
    command = lambda out: [sys.executable, tmp_path / "script.py", tmp_path / out, workers, form]
    process = subprocess.Popen(
        command("killed"), stdout=subprocess.PIPE, text=True, process_group=0, env={**os.environ, "PAUSE": "1"}
    )
    assert process.stdout.readline() == "going\n"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    partial = tmp_path / "killed.incomplete"
    done = {file: file.stat().st_mtime_ns for file in partial.glob("part-*.array_record")}
    assert len(done) >= 6 and not (tmp_path / "killed").exists()
    with pytest.raises(UserError, match=f"has no {INDEX}"):
        indexed(partial)
    for out in ("killed", "whole"):
        subprocess.run(command(out), check=True)
    assert content(tmp_path / "killed") == content(tmp_path / "whole") and not partial.exists()
    kept = {file: (tmp_path / "killed" / file.name).stat().st_mtime_ns for file in done}
    assert kept == done, "finished parts are not written again"


def interrupted(tmp_path, made, **options):
    """A call that ended at an error in record 30."""

    def fn(record):
        if record["x"] == 30 and not (tmp_path / "mended").exists():
            raise ValueError("bad")
        return record

    with pytest.raises(UserError, match="^record 30: ValueError: bad$"):
        map_records(fn, made, tmp_path / "out", HERE, part_size=8, **options)
    (tmp_path / "mended").touch()
    return fn


def test_a_restart_needs_the_same_source_and_function(tmp_path):
    fn = interrupted(tmp_path, stream(50))
    for other, words in (
        (({"x": i + (i == 8)} for i in range(50)), "records 8 to 15 of the source differ"),
        (stream(10), "records 8 to 9 of the source differ"),
        (stream(16), "the source has 2 parts, fewer than in the unfinished call"),
        (source(50), "begun with another source"),
    ):
        with pytest.raises(UserError, match=words):
            map_records(fn, other, tmp_path / "out", HERE, part_size=8)
    with pytest.raises(UserError, match="begun with another function"):
        map_records(doubled, stream(50), tmp_path / "out", HERE, part_size=8)
    with pytest.raises(UserError, match=r"begun with another part_size \(8; now 9\)"):
        map_records(fn, stream(50), tmp_path / "out", HERE, part_size=9)
    assert len(map_records(fn, stream(50), tmp_path / "out", HERE, part_size=8)) == 50


def test_a_damaged_part_is_written_again(tmp_path):
    fn = interrupted(tmp_path, source(50))
    (tmp_path / "out.incomplete" / "part-00000001.array_record").write_bytes(b"half")
    data = map_records(fn, source(50), tmp_path / "out", HERE, part_size=8)
    assert [data[i]["x"] for i in range(50)] == list(range(50))


def test_a_finished_call_that_was_not_renamed_is_opened(tmp_path):
    data = map_records(doubled, source(5), tmp_path / "out", HERE)
    os.rename(tmp_path / "out", tmp_path / "out.incomplete")
    with pytest.raises(UserError, match="was made of another source or function"):
        map_records(doubled, source(6), tmp_path / "out", HERE)
    assert map_records(doubled, source(5), tmp_path / "out", HERE).content == data.content


def test_one_writer_at_a_time(tmp_path):
    inside, go = threading.Event(), threading.Event()

    def fn(record):
        inside.set()
        go.wait(10)
        return record

    thread = threading.Thread(target=lambda: map_records(fn, source(3), tmp_path / "out", HERE))
    thread.start()
    inside.wait(10)
    with pytest.raises(UserError, match="another process is writing"):
        map_records(fn, source(3), tmp_path / "out", HERE)
    go.set()
    thread.join()
    assert len(indexed(tmp_path / "out")) == 3


def test_two_workers_may_write_one_part(tmp_path):
    """An engine that starts a task twice, as Spark and Beam do."""

    def twice(task, pieces):
        for piece in pieces:
            threads = [threading.Thread(target=task, args=(piece,)) for _ in range(2)]
            [thread.start() for thread in threads]
            [thread.join() for thread in threads]

    map_records(doubled, source(20), tmp_path / "twice", twice, part_size=2)
    map_records(doubled, source(20), tmp_path / "once", HERE, part_size=2)
    assert content(tmp_path / "twice") == content(tmp_path / "once")


def test_errors(tmp_path):
    out, fine = tmp_path / "out", lambda record: record
    bad = lambda value: lambda record: {"y": value} if record["x"] == 7 else {"y": 1}
    cases = [
        (bad({"z": 1}), source(9), "field 'y' of record 7 is a dict"),
        (bad("\udc80"), source(9), "field 'y' is not valid text"),
        (lambda record: record["x"], source(9), "record 0: the function returned a int"),
        (lambda record: {f"y{record['x'] // 5}": 1}, source(9), "record 5 has the fields"),
        (lambda record: record["z"], source(9), "record 0: KeyError: 'z'"),
        (fine, stream(0), "the source is empty"),
        (lambda record: [], source(9), "left out all records"),
        (3, source(9), "fn is a int"),
        (fine, tmp_path / "none.csv", "there is no file or folder"),
        (fine, 3, "is a int without len"),
    ]
    for number, (fn, data, words) in enumerate(cases):
        with pytest.raises(UserError, match=words):
            map_records(fn, data, tmp_path / f"out{number}", HERE)
    with pytest.raises(UserError, match="part-00000001.array_record has the fields"):
        map_records(cases[3][0], source(9), out, HERE, part_size=5)
    with pytest.raises(UserError, match="record 7.*is a dict"):
        map_records(cases[0][0], source(9), tmp_path / "two", local(workers=2), part_size=1)
    with pytest.raises(UserError, match="expected at least 1"):
        local(workers=0)
    with pytest.raises(UserError, match="the engine stopped: OSError: lost"):
        map_records(fine, source(9), tmp_path / "lost", lambda task, pieces: (_ for _ in ()).throw(OSError("lost")))
    with pytest.raises(UserError, match="the engine ended without part 1 of 2"):
        map_records(fine, source(9), tmp_path / "few", lambda task, pieces: task(list(pieces)[0]), part_size=5)


@pytest.mark.parametrize("extra", ["beam", "spark", "ray"])
def test_an_engine_that_is_not_installed_names_its_extra(tmp_path, monkeypatch, extra):
    from research.data import engines

    for package in ("apache_beam", "pyspark", "pyspark.errors", "ray"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"the engine {extra} needs the package.*pip install -e '\.\[{extra}\]'"):
        map_records(doubled, source(3), tmp_path / "out", getattr(engines, extra)())


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_the_source_ends_the_call(tmp_path, workers):
    """Also when the processes work, and other threads read the source."""
    broken = ({"x": i, "y": 1 // (60 - i)} for i in range(100))
    with pytest.raises(UserError, match="the engine stopped: ZeroDivisionError.*the same call continues"):
        map_records(doubled, broken, tmp_path / "out", local(workers=workers), part_size=2)


def test_rounds_are_bounded():
    piece = lambda number, held: parts.Piece(number, 0, 0, held)
    taken = itertools.count()
    streamed = (piece(next(taken), [0] * 10) for _ in itertools.repeat(None))
    found = list(itertools.islice(parts.rounds(streamed, held=25), 3))
    assert [len(some) for some in found] == [3, 3, 3] and next(taken) == 9
    ranges = [len(some) for some in parts.rounds((piece(i, None) for i in range(25_000)), held=25)]
    assert ranges == [10_000, 10_000, 5_000]


def test_the_local_engine_holds_few_pieces(tmp_path):
    """The number of pieces that were taken from the source when the first of them is done."""
    taken = itertools.count()

    def pieces():
        for number in range(40):
            if any(tmp_path.iterdir()):
                (tmp_path / "seen").touch()
                return
            next(taken)
            yield parts.Piece(number, 0, 0)

    local(workers=2)(functools.partial(mark_done, folder=tmp_path), pieces())
    assert next(taken) <= 8


def mark_done(piece, folder):
    (folder / f"{piece.number}").touch()


ROWS = {
    "age": [31.0, None, 47.0, 52.0, 28.0, 39.0, 61.0, 44.0] * 6,
    "city": ["Rome", "Oslo", None, "Rome"] * 12,
    "income": ["low", "high"] * 24,
}
STEPS = missing.median(flag=True), missing.most_frequent(), outliers.winsorise(), scale.standard(), encode.one_hot()


@pytest.fixture
def people():
    data = table(ROWS, target="income")
    return data, fit(data, *STEPS)


def test_a_preparation_maps_rows_of_every_source(tmp_path, people):
    data, prepare = people
    rows = [dict(zip(ROWS, row, strict=True)) for row in zip(*ROWS.values(), strict=True)]
    frame = pandas.DataFrame(ROWS)
    frame.to_csv(tmp_path / "rows.csv", index=False)
    frame.to_parquet(tmp_path / "rows.parquet")
    frame.to_json(tmp_path / "rows.jsonl", orient="records", lines=True)
    expected = prepare(data)
    sources = data, rows, iter(rows), *(tmp_path / f"rows.{kind}" for kind in ("csv", "parquet", "jsonl"))
    for number, given in enumerate(sources):
        made = map_records(prepare, given, tmp_path / str(number), local(workers=1 + number % 2), part_size=10)
        assert made.classes == ("high", "low") and len(made) == 48
        for name, column in expected.columns.items():
            found = np.stack([made[i][name] for i in range(48)])
            assert found.dtype == column.dtype
            np.testing.assert_array_equal(found, column)
    files = [{n: b for n, b in content(tmp_path / str(number)).items() if n != INDEX} for number in range(6)]
    assert all(one == files[0] for one in files)


def test_unexpected_values_are_one_warning_and_are_kept(tmp_path, people):
    new = [{"age": 1000.0, "city": "Paris" if i == 17 else "Rome"} for i in range(20)]
    with pytest.warns(UserWarning, match=r"in 4 of 4 parts: .*\(row 0 and 4 more rows") as found:
        made = map_records(people[1], new, tmp_path / "out", HERE, part_size=5)
    assert len(found) == 1 and "label" not in made.fields
    problems = read_json(tmp_path / "out" / INDEX)["problems"]
    assert "'city' has 'Paris' (row 17)" in problems["3"][0] and len(problems) == 4


def test_a_preparation_that_is_refused(tmp_path, people):
    data, prepare = people
    with pytest.raises(UserError, match="needs all rows at once .clean.missing.last."):
        map_records(fit(data, missing.forward(), missing.most_frequent()), data, tmp_path / "out", HERE)
    smoothed = fit(data, missing.median(), missing.most_frequent(), smooth.moving_average(3), encode.one_hot())
    with pytest.raises(UserError, match="needs all rows at once .features.smooth.averaged."):
        map_records(smoothed, data, tmp_path / "out", HERE)
    mean = fit(data, missing.median(), missing.most_frequent(), encode.target_mean(folds=2))
    for same in (data, subset(data, range(5))):
        with pytest.raises(UserError, match="table that the preparation was fitted on"):
            map_records(mean, same, tmp_path / "out", HERE)
    with pytest.raises(UserError, match="row 3"):
        bad = [{"age": "x" if i == 3 else "1", "city": "Rome"} for i in range(6)]
        map_records(prepare, bad, tmp_path / "bad", HERE, part_size=2)
    with pytest.raises(UserError, match="the record|has the fields"):
        map_records(prepare, [{"age": 1.0, "city": "Rome"}, {"age": 1.0}], tmp_path / "worse", HERE)


def test_the_numbers_of_a_preparation_are_its_identity(people):
    data, prepare = people
    other = fit(subset(data, range(20)), *STEPS)
    assert parts.identity(prepare) == parts.identity(fit(data, *STEPS)) != parts.identity(other)
    stricter = {**prepare.schema, "city": prepare.schema["city"]._replace(otherwise="refuse")}
    assert parts.identity(prepare) != parts.identity(dataclasses.replace(prepare, schema=stricter))
    assert parts.identity(functools.partial(doubled, 1)) != parts.identity(functools.partial(doubled, 2))
    assert parts.identity(len) != parts.identity(sum)


def test_kinds_of_a_schema_do_not_depend_on_the_part(tmp_path):
    """A part whose cells are all numbers has the same categories as the others."""
    codes = "01", "1", "1.0", "2.50", "x"
    (tmp_path / "a.csv").write_text("code,x\n" + "".join(f"{codes[i % 5]},{i / 2}\n" for i in range(60)))
    data = table(tmp_path / "a.csv", schema={"code": Column("category")})
    prepare = fit(data, encode.one_hot())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = map_records(prepare, tmp_path / "a.csv", tmp_path / "out", HERE, part_size=1)
    np.testing.assert_array_equal([made[i]["features"] for i in range(60)], prepare(data).columns["features"])


STREAMED = """
import resource, sys
from pathlib import Path
import numpy as np
from research.data import fit, table
from research.data.clean import missing
from research.data.engines import local, map_records
from research.data.features import scale
rng, folder, rows = np.random.default_rng(0), Path(sys.argv[1]), int(sys.argv[2])
block = "".join(f"{','.join(f'{x:.4f}' for x in row)}\\n" for row in rng.normal(size=(10_000, 20)))
with open(folder / "rows.csv", "w") as file:
    file.write(",".join(f"n{i}" for i in range(20)) + "\\n")
    for _ in range(rows // 10_000):
        file.write(block)
data = table({f"n{i}": rng.normal(size=1000) for i in range(20)})
prepare = fit(data, missing.median(), scale.standard())
assert len(map_records(prepare, folder / "rows.csv", folder / "out", local(workers=1), part_size=1024)) == rows
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_source(tmp_path):
    """The peaks of 50,000 and of 500,000 rows, 8 and 80 MB of text: at most two blocks of text apart."""
    peaks = []
    for rows in (50_000, 500_000):
        (tmp_path / str(rows)).mkdir()
        command = [sys.executable, "-c", STREAMED, tmp_path / str(rows), str(rows)]
        peaks.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    assert peaks[1] - peaks[0] < 2 * BYTES / 1024, peaks
