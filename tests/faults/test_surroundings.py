"""The surroundings of a run do not end it: pipes, ASCII terminals, encodings, no home folder, broken neighbours."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from launch.life import read_status
from research import events, verbs
from research.__main__ import main
from research.distributed.preemption import signals
from research.errors import UserError
from research.files import TolerantStream, read_json
from research.runs import folder as run_folder
from research.runs.experiment_file import experiments, load
from research.system import provenance
from research.system.compilation_cache import keep_compiled
from research.system.provenance import git_state
from research.tracking import trackers

TOY = (Path(__file__).parents[1] / "search" / "toy.py").read_text()


def git(folder, *arguments):
    subprocess.run(["git", "-C", folder, "-c", "user.name=t", "-c", "user.email=t@t", *arguments], check=True)


def test_the_difference_to_the_commit_is_kept_byte_by_byte(tmp_path):
    git(tmp_path, "init", "-q", ".")
    (tmp_path / "mine.py").write_text("# coding: latin-1\n" + TOY)
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "one")
    git(tmp_path, "config", "color.ui", "always")
    git(tmp_path, "config", "diff.external", "false")
    (tmp_path / "mine.py").write_bytes(b"# coding: latin-1\n# Caf\xe9\n" + TOY.encode())
    run = verbs.train(tmp_path / "mine.py", run_dir=tmp_path / "run", report=False, stream=io.StringIO())
    found = (run.folder / "git.diff").read_bytes()
    assert b"+# Caf\xe9\n" in found and found.startswith(b"diff --git") and b"\x1b" not in found
    assert git_state(tmp_path, [tmp_path / "mine.py"])[1].startswith(b"diff --git")


@pytest.mark.parametrize(
    "content",
    [b"\xef\xbb\xbf" + TOY.encode(), b"# coding: latin-1\n# Caf\xe9\n" + TOY.encode()],
    ids=["byte-order mark", "coding line"],
)
def test_a_source_is_read_and_kept_by_pythons_rules(tmp_path, content):
    file, folder = tmp_path / "mine.py", tmp_path / "run"
    file.write_bytes(content)
    for _ in range(2):  # the second time it is compared with what was kept
        run = verbs.train(file, run_dir=folder, report=False, stream=io.StringIO())
    assert load(folder / "source" / "mine.py").sources == load(file).sources
    assert verbs.evaluate(folder, on="end", stream=io.StringIO()) == {"end": run.results["end"]}


def test_a_stored_source_that_is_not_text_is_a_message(tmp_path):
    (tmp_path / "mine.py").write_text(TOY)
    run = verbs.train(tmp_path / "mine.py", run_dir=tmp_path / "run", report=False, stream=io.StringIO())
    stored = run.folder / "source" / "mine.py"
    stored.write_bytes(stored.read_bytes() + b"# \xad\n")
    with pytest.raises(UserError, match="mine.py is damaged: 'utf-8' codec"):
        verbs.train(tmp_path / "mine.py", run_dir=run.folder, stream=io.StringIO())


def test_two_processes_do_not_train_in_one_folder(tmp_path):
    (tmp_path / "mine.py").write_text(TOY)
    with (
        run_folder.lock(tmp_path / "run"),
        pytest.raises(UserError, match=f"process {os.getpid()} on .* is already training"),
    ):
        verbs.train(tmp_path / "mine.py", run_dir=tmp_path / "run", report=False, stream=io.StringIO())


def test_a_file_that_is_no_python_does_not_hide_the_others(tmp_path, capsys):
    (tmp_path / "good.py").write_text(TOY)
    (tmp_path / "old.py").write_text("print 'Python 2'\n")
    (tmp_path / "bytes.py").write_bytes(b"\xff\xfe\x00")
    assert main(["list", str(tmp_path)]) == 0
    shown = capsys.readouterr()
    assert [line.split()[0] for line in shown.out.splitlines()] == [str(tmp_path / "good.py")]
    assert shown.err.count(", which cannot be read: ") == 2 and "old.py" in shown.err
    (tmp_path / "good.py").unlink()
    with pytest.raises(UserError, match="no experiment below"):
        experiments(tmp_path)


def test_without_a_home_folder_nothing_is_kept(monkeypatch):
    def homeless(cls):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", classmethod(homeless))
    folder = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)  # that of the tests
    try:
        assert keep_compiled({}) is None
    finally:
        jax.config.update("jax_compilation_cache_dir", folder)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_listing_into_a_pipe_that_is_closed(tmp_path, unbuffered):
    for number in range(3000):  # more than a pipe holds
        (tmp_path / f"{number:04d}.py").write_text('"""A line of words on an experiment."""\ndef experiment(): ...\n')
    command = [sys.executable, "-m", "research", "list", str(tmp_path)]
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    process.stdout.read(1)
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 0 and error == b""


def test_a_terminal_of_ascii(tmp_path):
    (tmp_path / "mine.py").write_text('"""Größe ± 1."""\ndef experiment(): ...\n')
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "POSIX"}
    command = [sys.executable, "-m", "research", "list", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, env=env)
    assert done.returncode == 0 and b"Gr??e ? 1." in done.stdout and done.stderr == b""


def test_a_stream_that_is_closed_or_has_no_space():
    closed = io.StringIO()
    closed.close()
    patient = TolerantStream(closed)
    assert patient.write("words") == 5 and patient.flush() is None and patient.isatty() is False


def test_a_run_that_cannot_be_written_to_still_shows_its_numbers(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(TOY)
    run = verbs.train(tmp_path / "mine.py", run_dir=tmp_path / "run", report=False, stream=io.StringIO())
    (run.folder / "evaluated").write_text("a file where a folder should be")
    stream = io.StringIO()
    assert verbs.evaluate(run.folder, on="end", stream=stream) == {"end": run.results["end"]}
    assert "The evaluation end was not saved" in stream.getvalue() and "end  cost" in stream.getvalue()


def test_a_terminal_breaks_no_word(monkeypatch):
    class Terminal(io.StringIO):
        isatty = staticmethod(lambda: True)

    monkeypatch.setenv("COLUMNS", "40")
    path = "/a/path/that/is/much/longer/than/the/forty/columns/of/the/terminal"
    text = f"  try: lower the learning rate to a third-of-it, and see {path}\nshort  line\n"
    terminal, pipe = Terminal(), io.StringIO()
    print(text, file=TolerantStream(terminal))
    print(text, file=TolerantStream(pipe))
    lines = terminal.getvalue().splitlines()
    assert lines[0] == "  try: lower the learning rate to a" and lines[1] == "      third-of-it, and see"
    assert path in lines[2] and lines[3] == "short  line"
    assert pipe.getvalue() == text + "\n", "a pipe gets one line a message"
    table = Terminal()
    print("digits-1  finished  0.9812 ± 0.003, of many examples", file=TolerantStream(table))
    assert table.getvalue() == "digits-1  finished  0.9812 ± 0.003, of\n" + " " * 20 + "many examples\n"
    live = "\x1b[2K\r" + "=" * 60
    TolerantStream(terminal, controls=True).write(live)
    assert terminal.getvalue().endswith(live)


def test_a_closed_terminal_saves_and_nohup_goes_on(monkeypatch):
    def gone(*_):
        raise OSError(5, "Input/output error")

    asked, hang_up = [], lambda: os.kill(os.getpid(), signal.SIGHUP)
    monkeypatch.setattr(os, "write", gone)
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup themselves
    try:
        with signals(asked.append):
            hang_up()
        assert asked == [signal.SIGHUP]
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what nohup does
        with signals(asked.append):
            hang_up()
        assert asked == [signal.SIGHUP] and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


STATUSES = [
    "", "[]", "{", "null", '{"status": "finished"}', '{"status": "finished", "step": 12, "results": 7}',
    '{"status": "finished", "step": 12, "results": {"end": [1]}}', '{"status": "finished", "step": null}',
]  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    file = tmp_path_factory.mktemp("finished") / "mine.py"
    file.write_text(TOY)
    return verbs.train(file, run_dir=file.parent / "run", report=False, stream=io.StringIO())


@pytest.mark.parametrize("text", STATUSES)
def test_a_damaged_status_does_not_block_a_run(finished, text):
    path = finished.folder / "status.json"
    path.write_text(text)
    stream = io.StringIO()
    again = verbs.train(finished.folder.parent / "mine.py", run_dir=finished.folder, report=False, stream=stream)
    assert again.status == "finished" and again.results == finished.results
    assert "status.json is damaged" in stream.getvalue()
    assert json.loads(path.read_text())["results"] == finished.results


def test_a_finished_result_that_is_not_finite_is_printed(finished):
    path = finished.folder / "status.json"
    text = path.read_text()
    path.write_text(json.dumps({**read_json(path), "results": {"end": {"cost": None}}}))
    stream = io.StringIO()
    verbs.train(finished.folder.parent / "mine.py", run_dir=finished.folder, report=False, stream=stream)
    path.write_text(text)
    assert "end  cost nan" in stream.getvalue() and "already finished" in stream.getvalue()


@pytest.mark.parametrize("script", ["sleep 1000", "exit 3", "kill -9 $$", r"printf '\377\376'", None])
def test_git_that_fails_or_hangs(tmp_path, monkeypatch, script):
    if script is not None:
        (tmp_path / "git").write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
        (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(provenance, "GIT", 0.5)
    commit, diff = git_state(tmp_path)
    assert commit.strip("\ufffd") == "" and diff in (b"", b"\xff\xfe")


@pytest.mark.parametrize("when", ["start", "Started", "Evaluated", "Ended"])
def test_a_tracker_that_fails_does_not_end_the_run(finished, tmp_path, monkeypatch, capsys, when):
    called = []

    def make(folder, about):
        def listen(event):
            called.append(type(event).__name__)
            if called[-1] == when:
                raise ConnectionError("no network\nfor a while")

        if when == "start":
            raise ConnectionError("no network")
        return listen

    monkeypatch.setattr(trackers, "wandb", lambda project: make)
    options = {"run_dir": tmp_path / "run", "report": False, "stream": io.StringIO(), "wandb": "mine"}
    run = verbs.train(finished.folder.parent / "mine.py", **options)
    assert run.results == finished.results and called.count(when) <= 1 and called[-1:] in ([], [when])
    told = "Weights & Biases failed, and the run continues without it: ConnectionError: no network\n"
    assert capsys.readouterr().err.count(told) == 1


def test_a_subscriber_of_the_user_may_end_the_run(finished, tmp_path):
    def listen(event):
        if isinstance(event, events.Evaluated):
            raise ArithmeticError("enough")

    with pytest.raises(ArithmeticError, match="enough"):
        verbs.train(finished.folder.parent / "mine.py", run_dir=tmp_path / "run", listen=[lambda *_: listen])


@pytest.mark.parametrize("path", ["/proc/no/file", "/tmp"])
def test_a_status_file_that_cannot_be_written_does_not_end_the_run(finished, tmp_path, monkeypatch, capsys, path):
    monkeypatch.setenv("RESEARCH_STATUS_FILE", path)
    options = {"run_dir": tmp_path / "run", "report": False, "stream": io.StringIO()}
    assert verbs.train(finished.folder.parent / "mine.py", **options).results == finished.results
    assert f"RESEARCH_STATUS_FILE {path} cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[]", "{", "3"])
def test_a_launcher_reads_a_damaged_status_file_as_none(tmp_path, text):
    (tmp_path / "status.json").write_text(text)
    assert read_status(tmp_path / "status.json") == {"status": "nothing", "step": -1, "folder": ""}
