"""A folder from a stranger is inspected without running its code, following its links or unpacking its bombs."""

import io
import json
import os
import shutil
import sys
import zipfile

import numpy as np
import pytest

from research import verbs
from research.__main__ import main
from research.data import open_path
from research.errors import UserError, print_error, printable
from research.files import TolerantStream, check_regular, read_json, read_text
from research.report.compare import compare
from research.report.page import report
from research.report.runs import format_runs, runs
from research.runs import trust
from research.runs.folder import lock
from research.runs.opened import load_run
from research.runs.reader import read_run
from research.search.study import read_sweep
from research.system import archive
from research.system.archive import read_npz
from tests.report.runs import ROWS, about, bare, write_json, write_lines

TOY = '''"""A toy."""

from pathlib import Path

from tests import toys

Path(__file__).with_name("executed").touch()


def experiment(*, noise: float = 0.3):
    return toys.experiment(noise=noise)
'''
SECRET = "the text of a private file"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished run of this user, and the marker that its source leaves when it is executed."""
    home = tmp_path_factory.mktemp("made")
    (home / "toy.py").write_text(TOY)
    folder = verbs.train(home / "toy.py", run_dir=home / "run", report=False, stream=io.StringIO()).folder
    (home / "executed").unlink()
    return folder, home / "executed"


@pytest.fixture
def own(made, tmp_path):
    folder, marker = made
    marker.unlink(missing_ok=True)
    return shutil.copytree(folder, tmp_path / "runs" / "moved"), marker


@pytest.fixture(autouse=True)
def later_process(monkeypatch):
    """Forget which folders this process made, as a later process of the same user does."""
    monkeypatch.setattr(trust, "_of_this_process", set())


@pytest.fixture
def other_user(monkeypatch, tmp_path):
    """Become another user, who has another key."""
    monkeypatch.setenv(trust.SETTING, str(tmp_path / "state of another user"))


def test_an_own_run_never_asks(own, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    folder, marker = own  # moved, which changes nothing
    load_run(folder)
    assert marker.exists()
    original = marker.with_name("toy.py")
    try:
        original.write_text(TOY + "# edited\n")
        load_run(folder)  # runs the copy
    finally:
        original.write_text(TOY)
    assert not list(folder.rglob("__pycache__")), "opening a run adds no file to its source"
    load_run(folder)


def test_the_source_of_another_user_runs_only_with_trust(own, other_user, capsys):
    folder, marker = own
    for command in (["evaluate"], ["predict"], ["reproduce"]):
        data = ["valid"] if command == ["predict"] else []
        assert main([*command, str(folder), *data]) == 2
        assert "--trust" in capsys.readouterr().err and not marker.exists()
    assert main(["evaluate", str(folder), "--on", "valid", "--trust"]) == 0 and marker.exists()
    load_run(folder)  # trusted once, trusted from now on


def test_trust_of_one_user_does_not_end_that_of_another(own, monkeypatch, tmp_path):
    folder, _ = own
    with monkeypatch.context() as other:
        other.setattr(trust, "_of_this_process", set())
        other.setenv(trust.SETTING, str(tmp_path / "state of another user"))
        trust.check_trusted(folder, trust=True)
        assert trust.is_own(folder)
        other.setattr(trust, "_of_this_process", set())
        assert trust.is_own(folder)
    assert trust.is_own(folder) and not trust.is_own(tmp_path)


def test_the_report_of_another_user_runs_no_source(own, other_user):
    folder, marker = own
    stream = io.StringIO()
    page = verbs.report(folder, stream=stream)
    assert "--trust" in stream.getvalue() and "Results" in page.read_text() and not marker.exists()


@pytest.mark.parametrize("change", ["edit", "add", "bytecode", "knobs", "file", "forge"])
def test_an_edited_folder_loses_its_signature(own, change):
    folder, marker = own
    source, run = folder / "source", read_json(folder / "run.json")
    if change == "edit":
        (source / "toy.py").write_text(TOY + "\n# an addition\n")
    elif change == "add":
        (source / "optax.py").write_text("")
    elif change == "bytecode":
        (source / "__pycache__").mkdir()
        (source / "__pycache__" / "toy.cpython-311.pyc").write_bytes(b"")
    elif change == "knobs":
        write_json(folder / "run.json", {**run, "knobs": {"noise": 0.4}})
    elif change == "file":
        write_json(folder / "run.json", {**run, "file": "../toy.py"})
    else:
        (folder / trust.SIGNATURE).write_text("0" * 64)
    assert not trust.is_own(folder)
    with pytest.raises(UserError, match="--trust"):
        load_run(folder)
    assert not marker.exists()


def test_the_key_is_private_and_made_once(monkeypatch, tmp_path):
    monkeypatch.setenv(trust.SETTING, str(tmp_path / "state"))
    folder = bare(tmp_path / "run")
    trust.sign(folder)
    key = tmp_path / "state" / "key"
    first = key.read_bytes()
    trust.sign(folder)
    assert key.read_bytes() == first and trust.is_own(folder) and oct(key.stat().st_mode)[-3:] == "600"
    assert [path.name for path in key.parent.iterdir()] == ["key"]
    assert first.decode() not in (folder / trust.SIGNATURE).read_text()


def test_without_a_place_for_the_key_a_folder_is_unsigned(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(trust.SETTING, str(tmp_path / "file"))
    folder = bare(tmp_path / "run")
    trust.sign(folder)
    assert not (folder / trust.SIGNATURE).exists() and trust.is_own(folder), "this process made it"
    monkeypatch.setattr(trust, "_of_this_process", set())
    assert not trust.is_own(folder), "a later process does not know"


@pytest.mark.parametrize("file", ["../evil.py", "/evil.py", "a/../../evil.py", 5, None, ""])
def test_the_file_of_a_run_stays_in_its_source(own, file):
    folder, _ = own
    write_json(folder / "run.json", {**read_json(folder / "run.json"), "file": file})
    (folder / "evil.py").write_text("raise SystemExit(3)")
    with pytest.raises(UserError, match="expected a path relative to its folder source"):
        load_run(folder, trust=True)


def test_a_worker_of_another_users_sweep_runs_nothing(tmp_path, capsys):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "toy.py").write_text("raise SystemExit(3)")
    given = {"name": "toy", "seed": 0, "search": "grid", "stopping": "none", "metric": None, "mode": None,
             "space": {"searched": {}, "fixed": {}}}  # fmt: skip
    sweep = {"file": "toy.py", "given": given, "metric": "", "mode": "", "budget": {}}
    write_json(tmp_path / "sweep.json", sweep)
    assert main(["sweep", "--worker", str(tmp_path)]) == 2 and "--trust" in capsys.readouterr().err
    write_json(tmp_path / "sweep.json", {**sweep, "file": "../toy.py"})
    with pytest.raises(UserError, match="relative to its folder source"):
        read_sweep(tmp_path)


@pytest.mark.parametrize("verb", ["evaluate", "predict", "report", "reproduce", "sweep"])
def test_help_says_which_commands_run_the_source_of_a_folder(verb, capsys):
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    words = " ".join(capsys.readouterr().out.split())
    assert "runs the Python source that is stored" in words and "--trust" in words


@pytest.mark.parametrize("place", [
    "status.json", "git.diff", "source/x.py", "evaluations/test.json", "metrics.jsonl", "report", ".lock", "evaluations"
])  # fmt: skip
def test_links_are_not_followed(tmp_path, place):
    folder, outside = bare(tmp_path / "runs" / "a"), tmp_path / "outside"
    outside.mkdir()
    (outside / "report.html").write_text(SECRET)
    link = folder / place
    if link.is_dir():
        shutil.rmtree(link)
    link.unlink(missing_ok=True)
    link.symlink_to(outside if place in ("report", "evaluations") else outside / "report.html")
    for command in (lambda: report(folder), lambda: compare([folder, folder]), lambda: lock(folder).__enter__()):
        with pytest.raises(UserError, match=f"{place} is a symbolic link"):
            command()
    assert runs(tmp_path / "runs")[0].status in ("finished", "damaged")
    assert (outside / "report.html").read_text() == SECRET and len(list(outside.iterdir())) == 1


def test_a_file_is_opened_only_if_it_is_a_regular_one(tmp_path):
    (tmp_path / "file").write_text("text")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    assert read_text(tmp_path / "file") == "text"
    for name, reason in (("link", "symbolic link"), ("pipe", "not a regular file"), ("", "not a regular file")):
        with pytest.raises(OSError, match=reason):
            read_text(tmp_path / name)
    with pytest.raises(OSError, match="it has 4 bytes, expected at most 3"):
        read_text(tmp_path / "file", most=3)


def test_links_of_other_programs_and_folders_behind_a_link_are_allowed(tmp_path):
    folder = bare(tmp_path / "a")
    (folder / "wandb").mkdir()
    (folder / "wandb" / "latest-run").symlink_to("run-1")
    (tmp_path / "b").symlink_to(folder)
    check_regular(tmp_path / "b")
    assert read_run(tmp_path / "b").about["experiment"] == "digits"


def hostile(root):
    """Folders that no reader can use, by name."""

    def folder(name, **files):
        path = root / name
        write_json(path / "run.json", about(file="digits.py"))
        for file, content in files.items():
            target = path / file.replace("__", "/").replace("_json", ".json")
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return path

    folder("deep", run_json=b"[" * 100_000)
    folder("deep status", status_json=b'{"a":' * 100_000)
    folder("claims", run_json=about(claims=5))
    folder("types", run_json=about(experiment=[], knobs=7, seed={}, created="now", file=5, claims=[{"metric": []}, 3]))
    folder("status", status_json={"status": {}, "step": "x", "total": [], "results": {"test": 5}})
    folder("results", status_json={"status": "finished", "results": {"test": {"accuracy": {}, "loss": 10**400}}})
    folder("text", run_json=about(knobs={"width": "wide"}))
    write_json(folder("nested source").joinpath("source", *"a" * 70, "x.json"), {})
    write_json(root.joinpath("nested", *"a" * 70, "run.json"), about())
    folder("encoding", run_json='{"experiment": "ü"}'.encode("latin-1"))
    folder("file", run_json=about(file="../../digits.py"))
    folder("source", source__digits=b"")
    (root / "source" / "source" / "digits.py").write_text("(" * 5000)
    folder("created", run_json=about(created=1e308, seed=10**400))
    (root.parent / "private.json").write_text(json.dumps(about(knobs={"private": SECRET})))
    (root.parent / "private").mkdir()
    (root.parent / "private" / "test.json").write_text(json.dumps({"numbers": {"accuracy": 0.123}}))
    (folder("numbers") / "evaluations").symlink_to(root.parent / "private")
    for name, make in (
        ("link", lambda path: path.symlink_to(root.parent / "private.json")),
        ("pipe", os.mkfifo),
        ("zero", lambda path: path.symlink_to("/dev/zero")),
    ):
        (folder(name) / "run.json").unlink()
        make(root / name / "run.json")
    with open(folder("sparse") / "status.json", "wb") as file:
        file.truncate(10 * 2**30)
    folder("escape\x1b[2J", run_json=about(experiment="\x1b]0;title\x07", knobs={"\x1b[31m": "\x9b2J\nfake  finished"}))
    return {path.name for path in root.iterdir()} - {"nested"}


def test_a_bad_folder_does_not_break_the_list(tmp_path):
    root = tmp_path / "runs"
    names = hostile(root)
    bare(root / "good")
    found = {run.folder.name: run for run in runs(root)}
    assert set(found) == {*names, "good"}
    assert found["good"].status == "finished" and found["good"].results == {"test/accuracy": 0.98, "test/loss": 0.25}
    damaged = ["deep", "deep status", "claims", "types", "status", "encoding", "file", "sparse", "link", "numbers"]
    for name in [*damaged, "pipe", "zero", "nested source"]:
        assert found[name].status == "damaged" and found[name].problem, name
    text = format_runs(found.values())
    assert text.isprintable() or set(text) - {"\n"} == {c for c in text if c.isprintable()}
    assert len(text.split("\n")) == len(found) + 1, "one line per run"
    assert "good" in {run.folder.name for run in runs(root, where=["width>3"])}
    assert SECRET not in text and "0.123" not in text
    assert len(runs(root, sort="accuracy", where=["accuracy>0.9"])) == 1


def test_a_sparse_record_is_reported_and_not_read(tmp_path):
    folder = bare(tmp_path)
    with open(folder / "metrics.jsonl", "wb") as file:
        file.truncate(10 * 2**30)
    assert "metrics.jsonl cannot be read" in read_run(folder).problems[0]
    (folder / "profile").mkdir()
    with open(folder / "profile" / "summary.json", "wb") as file:
        file.truncate(10 * 2**30)
    page = report(folder).read_text()
    assert "it has 10737418240 bytes, expected at most 67108864" in page and "0.9800" in page


def test_a_report_of_wrong_types_shows_the_rest(tmp_path):
    folder = bare(tmp_path)
    write_json(folder / "run.json", about(claims=5, doc=[], knobs={"\x1b[2J<script>": "\x1b[31m"}, summary=3))
    write_lines(folder / "metrics.jsonl", [{"step": 1, "train/\x1b[2J": 1.0, "train/loss": "x"}, {"step": 2}])
    np.savez(
        folder / "evaluations" / "test.npz", **{"row/label": np.full(6, "<b>\x1b[2J"), "row/prediction": np.ones(6)}
    )
    page = report(folder).read_text()
    assert "&#x27;claims&#x27; has the wrong type int" in page and "0.9800" in page
    assert "\x1b" not in page and "<script>" not in page and "<b>\ufffd" not in page


def test_a_changed_source_file_of_any_content_is_reported(own, capsys):
    folder, _ = own
    for content in (b"\xff", b"# coding: nonsense\n", b"x = (\n", b"\x00"):
        (folder / "source" / "toy.py").write_bytes(content)
        for command in (["report", str(folder)], ["doctor", str(folder)], ["runs", str(folder.parent)]):
            assert main(command) in (0, 1)
        assert "The files in source/ have changed" in "".join(read_run(folder).problems)
        assert "damaged" in capsys.readouterr().out


def test_a_section_that_cannot_be_drawn_costs_only_itself(tmp_path):
    folder = bare(tmp_path)
    rows = {f"row/{name}": values for name, values in ROWS.items()}
    np.savez(folder / "evaluations" / "test.npz", **{**rows, "array/confusion": np.full((3, 3), "x")})
    page = report(folder).read_text()
    assert "This section cannot be drawn" in page and "Reproducibility record" in page and "0.9800" in page


def test_output_has_no_control_characters(capsys):
    assert printable("a\x1b[2Jb\u202ec\td\ne\x9b\x7f") == "a\ufffd[2Jb\ufffdc\td\ne\ufffd\ufffd"
    assert printable("שלום é \u200f") == "שלום é \u200f"
    stream = io.StringIO()
    print("run \x1b]0;title\x07\rfinished", file=TolerantStream(TolerantStream(stream, controls=True)))
    assert stream.getvalue() == "run \ufffd]0;title\ufffd\ufffdfinished\n"
    print("\r 50 %", end="", file=TolerantStream(stream))
    assert stream.getvalue().endswith("\r 50 %"), "a progress bar"
    for kept in ("\x1b[1;31mred\x1b[0m", "\n\n\x1b[A\x1b[A", "\r"):
        stream = io.StringIO()
        TolerantStream(stream).write(kept)
        assert stream.getvalue() == kept
    TolerantStream(stream).write("\x1b[31mred\x1b[A\r")
    assert stream.getvalue().endswith("\x1b[31mred\ufffd[A\ufffd")
    assert main(["evaluate", "no\x1b[2Jrun"]) == 2 and "\x1b" not in capsys.readouterr().err
    print_error(ValueError, ValueError("\x1b[2J"), None)
    assert "\ufffd[2J" in capsys.readouterr().err


def npz(**arrays) -> bytearray:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return bytearray(buffer.getvalue())


def test_flipped_bits_in_an_archive_are_found(tmp_path):
    """Every bit that decides is covered: the arrays are as written, or the archive is refused."""
    values = {"a": np.arange(50), "b": np.array(["x", "yy"]), "c": np.asfortranarray(np.eye(3, dtype=np.float32))}
    whole = npz(**values)
    for position in range(0, len(whole) * 8, 3):
        damaged = bytearray(whole)
        damaged[position // 8] ^= 1 << position % 8
        try:
            found = read_npz(io.BytesIO(damaged))
        except ValueError:
            continue
        for value in found.values():
            assert any(np.array_equal(value, original) for original in values.values()), position


@pytest.mark.parametrize(("case", "reason"), [
    ("bomb", "bytes unpack to"), ("shape", "declares"), ("pickle", "pickled"), ("name", ""), ("empty", ""), ("cut", ""),
])  # fmt: skip
def test_hostile_archives_are_refused_before_they_are_unpacked(tmp_path, monkeypatch, case, reason):
    path = tmp_path / "data.npz"
    path.write_bytes(npz(x=np.zeros(1000)))
    if case == "bomb":
        monkeypatch.setattr(archive, "FREE", 2**16)
        path.write_bytes(npz(x=np.zeros(2**21)))  # 16 MiB in 16 KiB
    elif case == "shape":  # the header declares 8 TB
        buffer = io.BytesIO()
        np.lib.format.write_array_header_1_0(buffer, {"descr": "<f8", "fortran_order": False, "shape": (2**40,)})
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("x.npy", buffer.getvalue())
    elif case == "pickle":
        np.savez(path, x=np.array([{}], dtype=object))
    elif case == "name":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("x.npy", "no array")
    else:
        path.write_bytes(b"" if case == "empty" else path.read_bytes()[:-30])
    with pytest.raises(UserError, match=rf"data.npz cannot be read as an .npz archive.*{reason}"):
        open_path(path)
    folder = bare(tmp_path / "run")
    shutil.copy(path, folder / "evaluations" / "test.npz")
    run = read_run(folder)
    assert run.problems[0].startswith("test.npz cannot be read") and run.evaluations["test"].numbers == {
        "accuracy": 0.5
    }
