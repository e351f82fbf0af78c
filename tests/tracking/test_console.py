"""Progress on a terminal, through a pipe, and when the stream breaks."""

import io
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

import research.tracking.console as console_module
from research.evaluate import Results
from research.events import Ended, Evaluated, Interval, Message, Saved, Started
from research.tracking.console import Shown, console, live_line, numbers

TIMING = {"seconds": 0.5, "steps_per_second": 20.0, "data_wait": 0.25}


def interval(step):
    return Interval(step, {"accuracy": 0.9, "learning_rate": 1e-3, "loss": 1 / step}, TIMING)


def evaluated(step, texts=None):
    return Evaluated(step, "valid", Results({"loss": 0.2134, "accuracy": 0.97006}, texts or {}, {}, {}, {}))


def written(events, **options):
    stream = io.StringIO()
    listen = console(stream=stream, label="digits", **options)
    for event in events:
        listen(event)
    return stream.getvalue().splitlines()


def test_a_run_through_a_pipe_is_a_few_plain_lines_and_always_the_last(monkeypatch):
    clock = iter(range(0, 10**6, 10))
    # Never too soon: only the count limits.
    monkeypatch.setattr(
        console_module.time, "monotonic", lambda: next(clock)
    )  # never too soon, so what limits is the count
    intervals = [interval(step) for step in range(1, 1001)]
    lines = written([Started(0, 1000, lambda: 0), *intervals, evaluated(1000), Ended(1000, "finished", {})])
    assert lines[0] == "step 0/1000  compiling"
    assert lines[1] == "step 1/1000  accuracy 0.9000  learning_rate 0.0010  loss 1.0000  with compilation  data 25 %"
    assert lines[2].startswith("step 51/1000") and lines[2].endswith("20.0 steps/s  data 25 %  ETA 0:47")
    assert lines[-2].startswith("step 1000/1000") and lines[-1].startswith("step 1000  valid")
    assert 20 <= len(lines) <= 24


def test_lines_through_a_pipe_keep_their_distance_in_time_but_the_last_is_told_at_the_end():
    lines = written([Started(0, 100, lambda: 0), *[interval(s) for s in range(1, 61)], Ended(60, "preempted", {})])
    assert [line.split()[1] for line in lines] == ["0/100", "1/100", "60/100"]


def test_texts_of_evaluations_can_be_left_out():
    event = evaluated(600, {"slices": "a table"})
    line = "step 600  valid  loss 0.2134  accuracy 0.9701"
    assert written([event]) == [line, "  slices:", "    a table"]
    assert written([event], texts=False) == [line]


def test_evaluations_and_notes_through_a_pipe():
    lines = written([Message(5, "two\nlines"), evaluated(600), Saved(600), Ended(600, "finished", {})])
    assert lines == ["two", "lines", "step 600  valid  loss 0.2134  accuracy 0.9701"]


def test_samples_are_indented_shortened_and_cannot_steer_the_terminal():
    lines = written([evaluated(1, {"sample": "\x1b[2Jx\r\n\tindented\n" + "y" * 500 + "\n" * 30 + "end"})])
    assert lines[1:5] == ["  sample:", "    \ufffd[2Jx\ufffd", "        indented", "    " + "y" * 99 + "…"]
    assert lines[-1] == "    … 25 more lines" and len(lines) == 11


def test_a_stream_that_breaks_does_not_end_the_run():
    class Broken(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

    listen = console(stream=Broken(), label="digits")
    for event in (Started(0, 10, lambda: 0), interval(1), evaluated(1), Ended(1, "failed", {})):
        listen(event)


def test_characters_that_the_stream_cannot_hold_are_replaced():
    raw = io.BytesIO()
    listen = console(stream=io.TextIOWrapper(raw, encoding="ascii"), label="")
    listen(Message(0, "Ärger"))
    assert raw.getvalue() == b"?rger\n"


FULL = Shown("digits", 300, 600, False, {"loss": 0.2134, "learning_rate": 1e-3, "accuracy": 0.9}, 54.2, 0.02)


@pytest.mark.parametrize("width", [10, 20, 30, 40, 60, 80, 120])
def test_the_live_line_never_wraps_and_keeps_the_step_longest(width):
    line = live_line(FULL, width)
    assert len(line) <= width
    assert "300/600" in line


def test_the_live_line_at_full_width():
    bar = "━" * 12 + "─" * 12
    words = ["loss 0.2134", "accuracy 0.9000", "lr 0.0010", "54.2 steps/s", "data 2 %", "ETA 0:06"]
    assert live_line(FULL, 200) == "  ".join(["digits", bar, "300/600", *words])
    assert "compiling" in live_line(FULL._replace(compiling=True, metrics={}, rate=None, wait=None), 80)


SCRIPT = """
import sys, time
from types import SimpleNamespace
from research.events import Ended, Evaluated, Interval, Message, Saved, Started
from research.tracking.console import console
at = [0]
listen = console(stream=sys.stdout, label="digits")
listen(Message(0, "Going on."))
listen(Started(0, 60, lambda: at[0]))
time.sleep(0.4)
for at[0], seconds in (10, 100.0), (20, 0.5), (30, 0.5):
    timing = {"seconds": seconds, "steps_per_second": 10 / seconds, "data_wait": 0.25}
    listen(Interval(at[0], {"loss": 1 / at[0]}, timing))
    time.sleep(0.4)
at[0] = 33
results = SimpleNamespace(numbers={"loss": 0.2134, "accuracy": 0.9701}, texts={"sample": "once"})
listen(Evaluated(30, "valid", results))
listen(Saved(30))
time.sleep(0.4)
if "fail" in sys.argv:
    try:
        raise KeyboardInterrupt
    finally:
        listen(Ended(33, "preempted", {}))
listen(Ended(60, "finished", {}))
print("the result")
"""


def on_a_terminal(*argv, columns="100"):
    """What the script writes to a pseudo-terminal of its own, and its exit code."""
    main, side = pty.openpty()
    env = os.environ | {"COLUMNS": columns, "LINES": "30", "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"}
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", SCRIPT, *argv], stdin=side, stdout=side, stderr=side, env=env, cwd=root
    )
    os.close(side)
    out, deadline = b"", time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([main], [], [], 0.1)[0]:
            try:
                out += os.read(main, 65536)
            except OSError:  # how Linux says that the other side was closed
                break
    os.close(main)
    return out.decode(), process.wait(timeout=10)


def drawn(out):
    """Each line as it came, without colours and cursor movements."""
    return [line for line in re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out)) if line]


def test_on_a_terminal_the_line_lives_and_is_gone_at_the_end():
    out, code = on_a_terminal()
    lines = drawn(out)
    assert code == 0
    assert any("0/60  compiling" in line for line in lines)
    alive = [line for line in lines if "33/60" in line]
    assert alive, "the refreshing thread must ask for the position"
    # 27 steps at the rate of the intervals after the first, which took 100 s to compile.
    assert "loss 0.0333" in alive[-1] and "20.0 steps/s" in alive[-1] and "ETA 0:01" in alive[-1]
    assert "compiling" not in alive[-1]
    for said in ("Going on.", "step 30  valid  loss 0.2134  accuracy 0.9701", "    once", "step 30  saved"):
        assert lines.count(said) == 1
    assert out.rstrip().endswith("the result")
    before = out[: out.rindex("the result")]
    assert before.rindex("\x1b[2K") > before.rindex("33/60")  # erased


def test_an_interrupt_leaves_the_terminal_with_a_cursor():
    out, code = on_a_terminal("fail")
    assert code != 0
    assert out.rindex("\x1b[?25h") > out.rindex("\x1b[?25l")
    assert out.index("\x1b[?25h") < out.index("compiling")  # also while the run goes on: a kill asks nobody
    assert out.index("KeyboardInterrupt") > out.rindex("33/60")


def test_a_name_of_a_metric_does_not_colour_the_terminal():
    assert numbers({"\x1b[31mred": 0.5}) == "\ufffd[31mred 0.5000"
