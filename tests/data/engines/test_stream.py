"""Windows of event time: what belongs to a window, what is late, and restarts."""

import os
import signal
import subprocess
import sys

import numpy as np
import pandas
import pytest

from research.data import fit, indexed, table
from research.data.clean import missing
from research.data.engines import cut_stream, late_records
from research.data.features import scale
from research.errors import UserError

SIZES = dict(time="t", window=10, lateness=5)


def records(count=200, seed=0):
    rng = np.random.default_rng(seed)
    return [{"t": float(t), "x": i} for i, t in enumerate(np.sort(rng.uniform(0, 100, count)).round(2))]


def delayed(events, lateness, seed):
    """The events in an order of arrival in which each is at most `lateness` behind the latest time."""
    delays = np.random.default_rng(seed).uniform(0, lateness, len(events))
    arrival = np.argsort([e["t"] + d for e, d in zip(events, delays, strict=True)])
    return [events[i] for i in arrival]


def files(out):
    return {path.name: path.read_bytes() for path in out.glob("*.array_record")}


def rows(data):
    return [data[i] for i in range(len(data))]


def test_windows_are_those_of_pandas(tmp_path):
    events = records()
    data = cut_stream(events, tmp_path / "out", **SIZES, end=True)
    assert rows(data) == rows(indexed(tmp_path / "out")) == events and late_records(tmp_path / "out") is None
    theirs = pandas.DataFrame(events).groupby(pandas.cut(pandas.DataFrame(events).t, range(0, 101, 10), right=False))
    index = [len(group) for _, group in theirs]
    assert [count for count, _ in indexed_files(tmp_path / "out")] == index


def indexed_files(out):
    import json

    return list(json.loads((out / "index.json").read_text())["files"].values())


def test_the_order_of_arrival_does_not_matter_within_the_lateness(tmp_path):
    events, found = records(), []
    for seed in range(4):
        arrived = delayed(events, 5, seed) if seed else events
        assert seed == 0 or arrived != events
        cut_stream(arrived, tmp_path / str(seed), **SIZES, end=True)
        assert late_records(tmp_path / str(seed)) is None
        found.append(files(tmp_path / str(seed)))
    assert found[0] and all(one == found[0] for one in found)


def test_equal_times_are_in_one_order(tmp_path):
    events = [{"t": 1.0, "x": i} for i in range(20)]
    for name, given in (("a", events), ("b", events[::-1])):
        cut_stream(given, tmp_path / name, **SIZES, end=True)
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_late_records_have_their_own_place(tmp_path):
    events = [{"t": t, "x": i} for i, t in enumerate((1, 12, 3, 16, 9.9, 5, 21))]
    # The watermark is 5 behind: at 16 it reaches 11, and the window 0 to 10 is closed.
    data = cut_stream(events, tmp_path / "out", **SIZES)
    assert [row["x"] for row in rows(data)] == [0, 2]
    assert [row["x"] for row in rows(late_records(tmp_path / "out"))] == [4, 5]
    data = cut_stream(events, tmp_path / "out", **SIZES, end=True)  # the same call, and its end
    assert [row["x"] for row in rows(data)] == [0, 2, 1, 3, 6]
    assert [row["x"] for row in rows(late_records(tmp_path / "out"))] == [4, 5]


def test_a_window_is_closed_when_the_watermark_is_at_its_end(tmp_path):
    assert cut_stream([{"t": 1.0}, {"t": 14.99}], tmp_path / "a", **SIZES) is None
    assert len(cut_stream([{"t": 1.0}, {"t": 15.0}], tmp_path / "b", **SIZES)) == 1


def test_a_record_on_the_watermark_is_not_late(tmp_path):
    events = [{"t": 25.0, "x": 0}, {"t": 20.0, "x": 1}, {"t": 19.0, "x": 2}]
    cut_stream(events, tmp_path / "out", **SIZES, end=True)
    assert [row["x"] for row in rows(late_records(tmp_path / "out"))] == [2]


def test_many_late_records_are_not_held(tmp_path, monkeypatch):
    monkeypatch.setattr("research.data.engines.stream.LATE", 3)
    seen = []

    def source(position):
        for i in range(position, 12):
            if i == 11:
                seen.append(len(late_records(tmp_path / "out")))
            yield {"t": 100.0 if i in (0, 1) else 1.0, "x": i}

    cut_stream(source, tmp_path / "out", **SIZES)
    assert seen == [9] and len(late_records(tmp_path / "out")) == 10


@pytest.mark.parametrize("at", [1, 30, 77, 140, 199])
def test_an_interrupted_stream_continues_to_the_same_bytes(tmp_path, at):
    events = delayed(records(), 14, 1)  # 14 is more than the lateness: some are late

    def failing(position):
        for i in range(position, len(events)):
            if i == at and not (tmp_path / "mended").exists():
                raise ConnectionError("gone")
            yield events[i]

    cut_stream(events, tmp_path / "whole", **SIZES, end=True)
    assert len(late_records(tmp_path / "whole")) > 3
    with pytest.raises(ConnectionError):
        cut_stream(failing, tmp_path / "out", **SIZES, end=True)
    (tmp_path / "mended").touch()
    cut_stream(failing, tmp_path / "out", **SIZES, end=True)
    together = [sorted(row["x"] for make in (indexed, late_records) for row in rows(make(tmp_path / name)))
                for name in ("out", "whole")]  # fmt: skip
    assert together[0] == together[1] == list(range(200)), "none is lost, and none is there twice"
    assert files(tmp_path / "out") == files(tmp_path / "whole")


KILLED = """
import sys, time
from research.data.engines import cut_stream
def source(position):
    for i in range(position, 2000):
        if i == 1500: print("going", flush=True)
        if i > 1500 and len(sys.argv) > 2: time.sleep(0.002)
        yield {"t": i * 0.1 - (i % 7) * 3, "x": i}
cut_stream(source, sys.argv[1], time="t", window=10, lateness=5, end=True)
"""


def test_a_killed_stream_continues_to_the_same_bytes(tmp_path):
    (tmp_path / "script.py").write_text(KILLED)
    command = [sys.executable, tmp_path / "script.py"]
    process = subprocess.Popen([*command, tmp_path / "killed", "slowly"], stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    before = len(indexed(tmp_path / "killed"))
    for name in ("killed", "whole"):
        subprocess.run([*command, tmp_path / name], check=True)
    assert 0 < before < len(indexed(tmp_path / "killed")) and len(late_records(tmp_path / "killed")) > 10
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def test_a_window_that_is_written_but_not_in_the_index_is_not_read(tmp_path, monkeypatch):
    events = [{"t": float(t), "x": t} for t in range(40)]
    replaced = os.replace
    calls = []

    def failing(source, target):
        calls.append(target)
        if len(calls) == 4:  # the index of the second window
            raise OSError(28, "No space left on device")
        return replaced(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", failing)
        with pytest.raises(OSError, match="No space"):
            cut_stream(events, tmp_path / "out", **SIZES)
    assert len(indexed(tmp_path / "out")) == 10
    assert len(cut_stream(events, tmp_path / "out", **SIZES)) == 30


def test_a_function_or_a_preparation_maps_the_records(tmp_path):
    events = delayed(records(50), 5, 2)
    only = cut_stream(events, tmp_path / "a", **SIZES, end=True, fn=lambda r: [{"y": r["x"]}] if r["x"] % 2 else [])
    assert [row["y"] for row in rows(only)] == list(range(1, 50, 2))
    assert cut_stream(events, tmp_path / "none", **SIZES, end=True, fn=lambda record: []) is None
    train = table({"t": [0.0, 50.5, 100.0], "x": [0.0, 49.0, None], "y": ["a", "b", "a"]}, target="y")
    prepare = fit(train, missing.mean(), scale.standard())
    data = cut_stream(events, tmp_path / "b", **SIZES, end=True, fn=prepare)
    assert data.classes == ("a", "b") and data.fields == ("features",)
    raw = {name: [record[name] for record in records(50)] for name in ("t", "x")}
    np.testing.assert_allclose([row["features"] for row in rows(data)], prepare(table(raw)).columns["features"])


def test_errors(tmp_path):
    good = [{"t": 0.0, "x": 1}]
    for given, words in (
        ([*good, {"x": 1}], "record 1: its time 't' is None"),
        ([{"t": float("nan")}], "record 0: its time 't' is nan"),
        ([{"t": "12"}], "expected a finite number"),
        ([3], "record 0: its time"),
        ([*good, {"t": 1.0, "y": 2}], "has the fields"),
    ):
        with pytest.raises(UserError, match=words):
            cut_stream(given, tmp_path / "out", **SIZES, end=True)
    with pytest.raises(UserError, match="record 1: ZeroDivisionError"):
        cut_stream([{"t": 1.0, "x": 1}, {"t": 0.0, "x": 0}], tmp_path / "fn", **SIZES, end=True,
                   fn=lambda record: {"y": 1 / record["x"]})  # fmt: skip
    for sizes in (dict(window=0), dict(lateness=-1), dict(window=float("nan"))):
        with pytest.raises(UserError, match="expected a window above 0"):
            cut_stream(good, tmp_path / "out", **{**SIZES, **sizes})
    cut_stream(good, tmp_path / "done", **SIZES, end=True)
    with pytest.raises(UserError, match="begun with another window .10; now 20."):
        cut_stream(good, tmp_path / "done", **{**SIZES, "window": 20})
    with pytest.raises(UserError, match="is no output of cut_stream"):
        late_records(tmp_path)
    from research.data import write

    write(good, tmp_path / "other")
    with pytest.raises(UserError, match="has other data"):
        cut_stream(good, tmp_path / "other", **SIZES)
