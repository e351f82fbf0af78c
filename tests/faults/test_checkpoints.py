"""Readers change nothing, a damaged score decides nothing, and a checkpoint is of the step that its folder says."""

import functools
import io
import os
import shutil
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import verbs
from research.core import State
from research.data import arrays, batches
from research.errors import UserError
from research.runs import named_checkpoint, opened
from research.runs.checkpoint import Checkpoints
from research.runs.checkpoint_meta import read_meta, scores_by_step, write_meta
from research.runs.named_checkpoint import copy_checkpoint, find_checkpoint
from tests import toys

TOY = '''"""A toy."""

from tests import toys


def experiment(*, noise: float = 0.3):
    return toys.experiment(noise=noise, keep=3)
'''


def state(value) -> State:
    return State(jnp.uint32(0), jnp.uint32(0), jnp.int32(value), {"w": jnp.full((4,), float(value))}, {}, ())


@pytest.fixture
def folder(tmp_path):
    """Checkpoints of the steps 1, 2 and 3; that of step 2 is the best."""
    with Checkpoints(tmp_path / "checkpoints", keep=3) as saved:
        for step, score in ((1, 0.1), (2, 0.9), (3, 0.5)):
            saved.save(state(step), {"step": step}, score=score)
    return tmp_path / "checkpoints"


def listing(folder):
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(Path(folder).rglob("*"))}


def abstract():
    return jax.eval_shape(lambda: state(0))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run below a folder whose name has an @."""
    home = tmp_path_factory.mktemp("me@home")
    (home / "toy.py").write_text(TOY)
    return verbs.train(home / "toy.py", run_dir=home / "run", report=False, stream=io.StringIO()).folder


def test_a_reader_leaves_what_another_process_is_writing(run):
    unfinished = run / "checkpoints" / "99.orbax-checkpoint-tmp"
    unfinished.mkdir()
    (unfinished / "half-written").write_text("...")
    before = listing(run / "checkpoints")
    assert opened.open_run(f"{run}@newest").step == 40 and opened.open_run(run).trained is not None
    assert listing(run / "checkpoints") == before
    with Checkpoints(run / "checkpoints"):
        deadline = time.monotonic() + 30
        while unfinished.exists() and time.monotonic() < deadline:  # a trainer removes it, in a thread of its own
            time.sleep(0.05)
    assert not unfinished.exists(), "a trainer removes what a killed one left"


def test_the_last_at_separates_the_step(run):
    assert find_checkpoint(str(run)).step == find_checkpoint(f"{run}@newest").step == 40
    assert find_checkpoint(f"{run}@best").step in scores_by_step(run / "checkpoints")
    with pytest.raises(UserError, match="has no checkpoint '7'"):
        find_checkpoint(f"{run}@7")


def test_a_checkpoint_that_vanishes_while_it_is_read_is_replaced_by_the_next(run, tmp_path, monkeypatch):
    moving = shutil.copytree(run, tmp_path / "run")
    steps, restore = sorted(scores_by_step(moving / "checkpoints")), Checkpoints.restore

    def vanish(self, abstract, *, step=None):
        if step == steps[-1]:
            shutil.rmtree(self.folder / str(step))
        return restore(self, abstract, step=step)

    monkeypatch.setattr(Checkpoints, "restore", vanish)
    assert opened.open_run(moving).step == steps[-2]
    copytree = shutil.copytree
    monkeypatch.setattr(shutil, "copytree", lambda source, part: shutil.rmtree(source) or copytree(source, part))
    with pytest.raises(UserError, match="deleted its checkpoint at step .* while it was copied. Run the same command"):
        copy_checkpoint(find_checkpoint(str(moving)), tmp_path / "new")


def test_the_newest_and_the_best_are_kept_and_only_after_a_sync_to_disk(folder, monkeypatch):
    """No older checkpoint is deleted before every file of the new one, and every folder above it, was synced."""
    done, fsync, rmtree = [], os.fsync, shutil.rmtree

    def syncing(descriptor):
        done.append(Path(f"/proc/self/fd/{descriptor}").resolve())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(shutil, "rmtree", lambda path: done.append(f"deleted {path.name}") or rmtree(path))
    with Checkpoints(folder, keep=1) as saved:
        saved.save(state(4), {"step": 4}, score=0.2)
        saved.wait()
        new = [folder, *(folder / "4").rglob("*"), folder / "4"]
        first = next(i for i, what in enumerate(done) if "deleted" in str(what))
        assert set(new) <= set(done[:first]) and len(new) > 8
        assert done[first:] == ["deleted 1.orbax-checkpoint-tmp", "deleted 3.orbax-checkpoint-tmp"]
        assert saved.best() == 2 and saved.steps() == [2, 4]
    assert scores_by_step(folder) == {2: 0.9, 4: 0.2}


def test_a_failed_write_deletes_nothing_and_the_next_one_succeeds(folder, monkeypatch):
    import orbax.checkpoint as ocp

    def full(*_, **__):
        raise OSError("No space left on device")

    with Checkpoints(folder, keep=1) as saved:
        with monkeypatch.context() as patch, pytest.raises(UserError, match="No space left on device"):
            patch.setattr(ocp.CheckpointManager, "save", full)
            saved.save(state(4), {"step": 4}, score=0.2)
            saved.wait()
        assert saved.steps() == [1, 2, 3]
        saved.save(state(5), {"step": 5})
    assert set(scores_by_step(folder)) == {2, 5}


def test_after_a_power_cut_the_newest_whole_checkpoint_is_used(folder):
    """Files of the newest checkpoint came back empty, as ext4 leaves what was not synced."""
    for path in (folder / "3").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    with Checkpoints(folder, keep=3) as saved:
        restored = saved.restore(abstract())
    assert restored.meta["step"] == 2 and list(restored.damaged) == [3]


def test_metadata_of_another_step_are_damage(folder):
    (folder / "2").rename(folder / "x")
    (folder / "3").rename(folder / "2")
    (folder / "x").rename(folder / "3")
    with Checkpoints(folder, keep=3) as saved:
        restored = saved.restore(abstract())
    assert restored.meta["step"] == 1 and int(restored.state.step) == 1
    assert restored.damaged == {3: "its metadata are those of step 2", 2: "its metadata are those of step 3"}


def test_a_sound_checkpoint_of_another_model_is_not_damaged(folder):
    other = abstract()._replace(params={"w": jax.ShapeDtypeStruct((5,), jnp.float32)})
    with (
        Checkpoints(folder, read_only=True) as saved,
        pytest.raises(UserError, match=r"w is float32\[4\] in the check"),
    ):
        saved.restore(other, step=3)
    fewer = abstract()._replace(params={})
    with (
        Checkpoints(folder, read_only=True) as saved,
        pytest.raises(UserError, match=r"params/w is float32\[4\] in the checkpoint .* but absent in this experiment"),
    ):
        saved.restore(fewer)
    assert (folder / "3").is_dir()


def test_an_array_without_a_checksum_is_damage(folder, monkeypatch):

    meta = read_meta(folder / "3" / "meta")
    write_meta(folder / "3" / "meta", {**meta, "checksums": {}})
    with Checkpoints(folder, keep=3) as saved:
        restored = saved.restore(abstract())
    assert restored.meta["step"] == 2 and "the checksum of" in restored.damaged[3]


def _resumable(folder):
    """Turn a finished toy run back into an interrupted one: without its newest checkpoint."""
    shutil.rmtree(folder / "checkpoints" / "40")
    (folder / "status.json").unlink()
    return folder


CHANGES = {
    "has 51 records instead of 50": lambda data: {name: np.append(v, v[:1], 0) for name, v in data.items()},
    "has 49 records instead of 50": lambda data: {name: v[:49] for name, v in data.items()},
    "has its records in another order": lambda data: {name: v[::-1] for name, v in data.items()},
    "has other values of 'y'": lambda data: {**data, "y": np.nextafter(data["y"], 9, dtype=np.float32)},
    "has other values of 'x'": lambda data: {**data, "x": data["x"].astype(np.float64)},
}


def test_a_run_does_not_continue_on_other_data(run, tmp_path, monkeypatch):
    file, folder = run.parent / "toy.py", _resumable(shutil.copytree(run, tmp_path / "run"))
    again = functools.partial(verbs.train, file, run_dir=folder, report=False, stream=io.StringIO())
    for change, function in CHANGES.items():
        with monkeypatch.context() as patch:
            patch.setattr(toys, "DATA", arrays(**function(toys.DATA.columns)))
            patch.setattr(toys, "experiment", functools.partial(toys.experiment, source=batches(toys.DATA, 8)))
            with pytest.raises(UserError, match=rf"the data have changed .*\n  train {change}\n(?s:.*)--from {folder}"):
                again()
            printed = io.StringIO()
            verbs.evaluate(folder, on="test", stream=printed)
            assert f"The data have changed since the run: train {change}.\n" in printed.getvalue()
    assert not (folder / "status.json").exists() and not (folder / "damaged").exists()
    assert again().status == "finished"
    metrics = [(one / "metrics.jsonl").read_bytes() for one in (folder, run)]
    assert metrics[0] == metrics[1] and "data have changed" not in _evaluated(folder)


def _evaluated(folder):
    printed = io.StringIO()
    verbs.evaluate(folder, on="test", stream=printed)
    return printed.getvalue()


def test_a_checkpoint_of_another_run_is_refused_and_stays(run, tmp_path):
    other = verbs.train(run.parent / "toy.py", run_dir=tmp_path / "other", seed=1, report=False, stream=io.StringIO())
    shutil.rmtree(other.folder / "checkpoints" / "40")
    (other.folder / "status.json").unlink()
    foreign = shutil.copytree(run / "checkpoints" / "40", other.folder / "checkpoints" / "40")
    before = listing(foreign)
    for use in (
        lambda: opened.open_run(f"{other.folder}@40"),
        lambda: verbs.train(run.parent / "toy.py", run_dir=other.folder, seed=1, report=False, stream=io.StringIO()),
    ):
        with pytest.raises(UserError, match="step 40 in .* belongs to another run: its id is '.*', expected '"):
            use()
    assert listing(foreign) == before
    shutil.rmtree(foreign)
    assert opened.open_run(other.folder).step == 35, "its own checkpoints are valid"


def test_a_checkpoint_without_an_identity_is_refused(folder):
    with Checkpoints(folder, about={"id": "1", "start_from": "a@2"}) as saved:
        with pytest.raises(UserError, match="step 3 .* belongs to another run: its id is None, expected '1'"):
            saved.restore(abstract())
    meta = read_meta(folder / "3" / "meta")
    write_meta(folder / "3" / "meta", {**meta, "about": {"start_from": "a@2"}})
    with Checkpoints(folder, about={"id": "1", "start_from": "a@2"}) as saved:
        assert int(saved.restore(abstract()).state.step) == 3, "it was copied from the run with which this one began"


def test_a_checkpoint_that_is_saved_while_its_predecessors_are_read_is_not_damaged(run, tmp_path, monkeypatch):
    folder = shutil.copytree(run, tmp_path / "run")

    def scores(checkpoints):
        found = scores_by_step(checkpoints)
        shutil.copytree(checkpoints / "40", checkpoints / "45", dirs_exist_ok=True)
        return found

    monkeypatch.setattr(named_checkpoint, "scores_by_step", scores)
    assert find_checkpoint(str(folder)).step == 40


def test_a_checkpoint_that_is_deleted_while_a_reader_lists_them_is_no_error(run, monkeypatch):
    failures, opening = iter(range(2)), Checkpoints.__init__

    def fails_twice(self, *args, **kwargs):
        if next(failures, None) is not None:
            raise FileNotFoundError(2, "No such file or directory", "checkpoints/17")
        opening(self, *args, **kwargs)

    monkeypatch.setattr(Checkpoints, "__init__", fails_twice)
    assert opened.open_run(run).step == 40


@pytest.mark.parametrize("selector", ["", "@newest", "@best"])
def test_a_damaged_newest_checkpoint_is_not_passed_over_in_silence(run, tmp_path, selector):
    folder = shutil.copytree(run, tmp_path / "run")
    meta = folder / "checkpoints" / "40" / "meta" / "meta.json"
    meta.write_bytes(meta.read_bytes()[:-9])
    with pytest.raises(UserError, match=rf"checkpoints/40 is damaged: .* use {folder}@35, or train it further"):
        opened.open_run(f"{folder}{selector}")
    assert opened.open_run(f"{folder}@35").step == 35
