"""A run that fails before its first checkpoint: it is shown as failed, and the same command after the fix trains."""

import io
import re
from pathlib import Path

import pytest

from research import verbs
from research.__main__ import main
from research.errors import UserError
from research.files import read_json, write_json
from research.report.runs import runs

SOUND = (Path(__file__).parents[1] / "search" / "toy.py").read_text()
BREAKS = {
    "a crash in experiment()": ("    cost = ", "    None.shape\n    cost = ", "'NoneType' object"),
    "an experiment() without return": ("return Experiment(", "Experiment(", "returned None; expected an Experiment"),
    "an error of the build": ("log_every=3", 'on_nonfinite="explode"', "explode"),
    "a crash in a step": ("return make(step)", 'raise OSError("no data")', "no data"),
}


def train(file, text, **options):
    file.write_text(text)
    return verbs.train(file, report=False, stream=io.StringIO(), **options)


@pytest.mark.parametrize("case", BREAKS)
def test_a_failed_start_does_not_block_its_fix(tmp_path, case):
    old, new, words = BREAKS[case]
    file, folder = tmp_path / "mine.py", tmp_path / "run"
    assert old in SOUND
    with pytest.raises(UserError, match=words):
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
    with pytest.raises(UserError, match="AttributeError"):
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
    with pytest.raises(UserError, match="AttributeError"):
        broken = SOUND.replace("    cost = ", "    None.shape\n    cost = ")
        train(file, broken, run_dir=folder, start_from=first.folder)
    with pytest.raises(UserError, match="has changed|start_from: 'first@12' in the run"):
        train(file, SOUND, run_dir=folder, start_from=start_from and tmp_path / start_from)


def test_what_failed_later_keeps_its_step(tmp_path):
    """A run with checkpoints that cannot be built again: its status says failed, and how far it had come."""
    file, folder = tmp_path / "mine.py", tmp_path / "run"
    with pytest.raises(UserError, match="not finite"):
        sound = SOUND.replace("save_every=3", "save_every=4")
        train(file, sound.replace("broken: bool = False", "broken: bool = True"), run_dir=folder)
    before = read_json(folder / "status.json")
    file.unlink()
    broken = (folder / "source" / "mine.py").read_text()
    (folder / "source" / "mine.py").write_text(broken.replace("    cost = ", "    None.shape\n    cost = "))
    with pytest.raises(UserError, match="AttributeError"):
        train(file, broken.replace("    cost = ", "    None.shape\n    cost = "), run_dir=folder)
    after = read_json(folder / "status.json")
    assert after["step"] == before["step"] == 4 and "NoneType" in after["text"]


def test_a_folder_of_another_version_is_refused_by_name(tmp_path):
    file, folder = tmp_path / "mine.py", tmp_path / "run"
    train(file, SOUND, run_dir=folder)
    about = read_json(folder / "run.json")
    del about["start_from"]
    write_json(folder / "run.json", about)
    with pytest.raises(UserError, match="no field 'start_from': another version wrote it"):
        train(file, SOUND, run_dir=folder)


LINES = {
    "import nothing.there as missing": ("import time\n", "import time\nimport nothing.there as missing\n", "nothing"),
    "return None.shape": (
        "    cost = ", "    def innermost():\n        return None.shape\n    innermost()\n    cost = ",
        "AttributeError: 'NoneType' object",
    ),
    'init=lambda key: ({"w": jnp.zeros(-1)}, {}),': ("jnp.zeros(())}", "jnp.zeros(-1)}", "Error: .*-1"),
    'return jnp.dot(batch["z"], batch["z"])': (
        "        return {\"cost\"", "        return jnp.dot(batch[\"z\"], batch[\"z\"])\n        return {\"cost\"",
        "the evaluation 'valid': the measure fails for a batch of",
    ),
}  # fmt: skip


@pytest.mark.parametrize("line", LINES)
def test_an_error_of_the_experiment_ends_with_its_own_line(tmp_path, capsys, line):
    old, new, words = LINES[line]
    file = tmp_path / "mine.py"
    assert old in SOUND
    file.write_text(SOUND.replace(old, new))
    number = next(i for i, text in enumerate(file.read_text().split("\n"), 1) if line in text)
    assert main(["train", str(file), "--run-dir", str(tmp_path / "run")]) == 2
    *message, place, last = capsys.readouterr().err.rstrip().split("\n")
    assert re.search(words, message[0]) and last.strip() == line and len(message) < 5
    assert place.endswith(f"{file}, line {number}:")


def test_an_experiment_of_another_type_is_named(tmp_path):
    with pytest.raises(UserError, match=r"returned a tuple; expected an Experiment\.$"):
        train(
            tmp_path / "mine.py", SOUND.replace("return Experiment(", "return 1, Experiment("), run_dir=tmp_path / "r"
        )
