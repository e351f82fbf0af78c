"""A run that fails before its first checkpoint: it is shown as failed, and the same command after the fix trains."""

import io
from pathlib import Path

import pytest

from research import verbs
from research.errors import UserError
from research.files import read_json, write_json
from research.report.runs import runs

SOUND = (Path(__file__).parents[1] / "search" / "toy.py").read_text()
BREAKS = {
    "a crash in experiment()": ("    cost = ", "    None.shape\n    cost = ", AttributeError, "'NoneType' object"),
    "an error of the build": ("log_every=3", 'on_nonfinite="explode"', UserError, "explode"),
    "a crash in a step": ("return make(step)", 'raise OSError("no data")', UserError, "no data"),
}


def train(file, text, **options):
    file.write_text(text)
    return verbs.train(file, report=False, stream=io.StringIO(), **options)


@pytest.mark.parametrize("case", BREAKS)
def test_a_failed_start_does_not_block_its_fix(tmp_path, case):
    old, new, kind, words = BREAKS[case]
    file, folder = tmp_path / "mine.py", tmp_path / "run"
    assert old in SOUND
    with pytest.raises(kind, match=words):
        train(file, SOUND.replace(old, new), run_dir=folder)
    status = read_json(folder / "status.json")
    assert status["status"] == "failed" and status["step"] == 0 and words in status["text"]
    (line,) = runs(tmp_path)
    assert line.status == "failed"
    run = train(file, SOUND, run_dir=folder)
    assert run.status == "finished" and (folder / "source" / "mine.py").read_text() == SOUND


def test_begun_from_another_run_it_is_begun_there_again(tmp_path):
    file, folder = tmp_path / "mine.py", tmp_path / "run"
    first = train(file, SOUND, run_dir=tmp_path / "first")
    longer = SOUND.replace("STEPS = 12", "STEPS = 18")
    with pytest.raises(AttributeError):
        train(
            file, longer.replace("    cost = ", "    None.shape\n    cost = "), run_dir=folder, start_from=first.folder
        )
    train(file, longer, run_dir=folder, start_from=first.folder)
    assert read_json(folder / "status.json")["step"] == 18
    with pytest.raises(UserError, match="has changed since"):  # now it has checkpoints of its own
        train(file, SOUND, run_dir=folder, start_from=first.folder)


@pytest.mark.parametrize("start_from", ["second", None])
def test_begun_from_another_run_it_does_not_pass_for_one_with_another_beginning(tmp_path, start_from):
    """Its folder holds the first run's checkpoint already."""
    file, folder = tmp_path / "mine.py", tmp_path / "run"
    first = train(file, SOUND, run_dir=tmp_path / "first")
    train(file, SOUND, run_dir=tmp_path / "second")
    with pytest.raises(AttributeError):
        broken = SOUND.replace("    cost = ", "    None.shape\n    cost = ")
        train(file, broken, run_dir=folder, start_from=first.folder)
    with pytest.raises(UserError, match="has changed|start_from: 'first@12' in the run"):
        train(file, SOUND, run_dir=folder, start_from=start_from and tmp_path / start_from)


def test_what_failed_later_keeps_its_step(tmp_path):
    """A run with checkpoints that cannot be built again: its status says failed, and how far it had come."""
    file, folder = tmp_path / "mine.py", tmp_path / "run"
    with pytest.raises(UserError, match="not finite"):
        train(file, SOUND.replace("broken: bool = False", "broken: bool = True"), run_dir=folder)
    before = read_json(folder / "status.json")
    file.unlink()
    broken = (folder / "source" / "mine.py").read_text()
    (folder / "source" / "mine.py").write_text(broken.replace("    cost = ", "    None.shape\n    cost = "))
    with pytest.raises(AttributeError):
        train(file, broken.replace("    cost = ", "    None.shape\n    cost = "), run_dir=folder)
    after = read_json(folder / "status.json")
    assert after["step"] == before["step"] > 0 and "NoneType" in after["text"]


def test_a_folder_of_another_version_is_refused_by_name(tmp_path):
    file, folder = tmp_path / "mine.py", tmp_path / "run"
    train(file, SOUND, run_dir=folder)
    about = read_json(folder / "run.json")
    del about["start_from"]
    write_json(folder / "run.json", about)
    with pytest.raises(UserError, match="no field 'start_from': another version wrote it"):
        train(file, SOUND, run_dir=folder)
