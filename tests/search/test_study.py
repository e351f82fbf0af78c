"""What a sweep decides: what to try, when to stop a trial, what to do after a death, when it is over."""

import contextlib
import io
import json
import os
import subprocess
import time

import optuna
import pytest

from research.errors import UserError
from research.files import read_json, write_json
from research.runs.checkpoint_meta import FORMAT, write_meta
from research.search import journal, sweep, verb, worker
from research.search import report as reports
from research.search import study as studies
from research.search.study import claim, hold, mutex, read_sweep, settle
from tests.search import fake as fakes
from tests.search.fake import FILE, STEPS, Fake, cost


@pytest.fixture
def fake(monkeypatch):
    made = Fake(cost, [])
    monkeypatch.setattr(worker, "train", made)
    monkeypatch.setattr(verb, "report", lambda *_: "report.html")
    monkeypatch.setattr(reports, "importance", lambda study: {})
    monkeypatch.setattr(os, "fsync", lambda number: None)  # thousands of them take minutes on a busy disk
    return made


def run(tmp_path, **options):
    stream = io.StringIO()
    found = sweep(FILE, runs=tmp_path, stream=stream, **{"x": "-1:1", "n": "1:20", **options})
    return found, stream.getvalue()


def opened(folder):
    return settle(folder)


def break_off(fake, number, step):
    """Makes the worker die in trial `number` at `step`, as by Ctrl-C; the trial stays as it is."""

    def value(knobs, at):
        if fake.calls[-1][0] == f"{number:04d}" and at == step and not any(c == "broken" for c in fake.calls):
            fake.calls.insert(0, "broken")
            raise KeyboardInterrupt
        return cost(knobs, at)

    return fake._replace(value=value)


def test_a_grid_tries_every_point_once(fake, tmp_path):
    found, output = run(tmp_path, search="grid", x="0:1:3", n="6,7")
    assert found.finished and len(fake.calls) == 6
    assert [(k["x"], k["n"]) for _, k in fake.calls] == [(x, n) for x in (0.0, 0.5, 1.0) for n in (6, 7)]
    assert found.trials[0].knobs == {"x": 0.5, "n": 7} and found.trials[0].value == pytest.approx(0.04 + 0.9**STEPS)
    assert "--x=0.5 --n=7" in output and "best: python -m research train" in output
    assert "trial 0    finished" in output


def test_the_same_command_adds_nothing_and_a_larger_budget_goes_on(fake, tmp_path):
    first, _ = run(tmp_path, search="random", budget="5trials")
    again, _ = run(tmp_path, search="random", budget="5trials")
    assert len(fake.calls) == 5 and again.trials == first.trials and again.folder == first.folder
    more, _ = run(tmp_path, search="random", budget="8trials")
    assert len(fake.calls) == 8 and more.folder == first.folder
    assert {t.number: t.knobs for t in more.trials if t.number < 5} == {t.number: t.knobs for t in first.trials}


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "search", ["random", "tpe", pytest.param("gp", marks=SLOW), pytest.param("evolution", marks=SLOW)]
)
def test_one_worker_repeats_even_when_it_is_broken_off(fake, tmp_path, monkeypatch, search):
    whole, _ = run(tmp_path / "whole", search=search, budget="18trials", kind="good,bad", seed=3)
    monkeypatch.setattr(worker, "train", break_off(fake, 13, 5))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", search=search, budget="18trials", kind="good,bad", seed=3)
    fake.calls[:] = ["broken"]
    rest, _ = run(tmp_path / "broken", search=search, budget="18trials", kind="good,bad", seed=3)
    assert [c[0] for c in fake.calls[1:]][0] == "0013"  # the same run folder
    knobs = [{t.number: (t.knobs, t.value) for t in found.trials} for found in (whole, rest)]
    assert knobs[0] == knobs[1] and len(knobs[0]) == 18
    other, _ = run(tmp_path / "whole", search=search, budget="3trials", kind="good,bad", seed=4)
    assert other.folder != whole.folder and other.trials[0].knobs not in [t.knobs for t in whole.trials]


@pytest.mark.parametrize(
    ("search", "within"),
    [("tpe", 0.1), pytest.param("gp", 0.02, marks=SLOW), pytest.param("evolution", 0.3, marks=SLOW)],
)
def test_a_search_that_learns_comes_nearer_than_chance(fake, tmp_path, search, within):
    """The optimum is known: x = 0.3, n = 7, kind good."""
    budget = "24trials" if search == "gp" else "40trials"
    found, _ = run(tmp_path, search=search, budget=budget, kind="good,bad", seed=1)
    random, _ = run(tmp_path, search="random", budget=budget, kind="good,bad", seed=1)
    gap, by_chance = (found.trials[0].value - 0.9**STEPS), (random.trials[0].value - 0.9**STEPS)
    assert 0 <= gap < within and (gap < by_chance or search == "evolution")
    assert found.trials[0].knobs["kind"] == "good"
    late = sorted(found.trials, key=lambda t: t.number)[len(found.trials) // 2 :]
    chance = sorted(random.trials, key=lambda t: t.number)[len(found.trials) // 2 :]
    assert search == "gp" or sum(t.value for t in late) < 0.8 * sum(t.value for t in chance)  # gp explores


@pytest.mark.parametrize(
    ("stopping", "fewer"), [("asha", 0.6), pytest.param("hyperband", 0.8, marks=SLOW), ("median", 0.8)]
)
def test_stopping_ends_bad_trials_early_and_keeps_the_best(fake, tmp_path, stopping, fewer):
    # No trial ever looks at another, so a random search tries the same knobs with and without stopping.
    whole, _ = run(tmp_path, search="random", budget="40trials")
    found, output = run(tmp_path, search="random", budget="40trials", stopping=stopping)
    steps = [sum(t.steps for t in made.trials) for made in (whole, found)]
    assert steps[0] == 40 * STEPS and steps[1] < fewer * steps[0]
    pruned = [t for t in found.trials if t.state == "pruned"]
    assert pruned and all(t.steps < STEPS and t.value is not None for t in pruned) and "pruned" in output
    assert found.trials[0].knobs == whole.trials[0].knobs
    status = read_json(pruned[0].folder / "status.json")
    assert status["status"] == "pruned" and f"stopped at step {pruned[0].steps}" in status["text"]
    worse = [t.value for t in whole.trials if t.number in {p.number for p in pruned}]
    assert sum(worse) / len(worse) > sum(t.value for t in whole.trials) / 40


def test_a_run_that_is_at_its_end_is_not_stopped(fake, tmp_path, monkeypatch):
    """It has cost all that it can cost. The later trials are the best until their last evaluation, which is a rung."""
    monkeypatch.setattr(fakes, "STEPS", 9)
    monkeypatch.setattr(worker, "train", Fake(lambda k, step: 10.0 if step == 9 and k["n"] > 3 else -k["n"], []))
    found, _ = run(tmp_path, search="grid", x="0", n="1:8", stopping="asha")
    assert [t.state for t in found.trials] == ["finished"] * 8 and found.trials[-1].value == 10


def test_asha_stops_at_its_rungs(fake, tmp_path):
    """After 1, 3 and 9 evaluations, unless among the best third there: Li et al. 2020, algorithm 2."""
    found, _ = run(tmp_path, search="random", budget="40trials", stopping="asha")
    assert {t.steps for t in found.trials} == {1, 3, 9, STEPS}
    assert sum(t.steps > 1 for t in found.trials) < 25


def test_budgets_of_steps_and_time(fake, tmp_path, monkeypatch):
    by_steps, _ = run(tmp_path, search="random", budget="100steps")
    assert len(by_steps.trials) == 9 and by_steps.finished  # the ninth begins at 96 steps
    clock = iter(range(0, 10**6, 10))
    monkeypatch.setattr(worker.time, "monotonic", lambda: next(clock))
    by_time, output = run(tmp_path, search="random", budget="1h", seed=1)
    seconds = [t.seconds for t in by_time.trials]
    assert sum(seconds) >= 3600 > sum(seconds) - max(seconds) and min(seconds) >= 100


def test_the_same_knobs_are_not_trained_twice(fake, tmp_path):
    found, _ = run(tmp_path, search="random", x="0:1:2", n="6,7", budget="1e9steps")
    assert found.finished and len(fake.calls) == len({str(k) for _, k in fake.calls}) <= 4
    repeated = [t for t in found.trials if t.same_as is not None]
    original = {t.number: t for t in found.trials if t.same_as is None}
    assert repeated and all(t.value == original[t.same_as].value for t in repeated)
    assert all(t.folder == original[t.same_as].folder and t.steps == 0 for t in repeated)


@pytest.mark.parametrize("search", ["tpe", "random"])
def test_a_search_whose_budget_covers_all_combinations_tries_each_once(fake, tmp_path, search):
    few, _ = run(tmp_path, search=search, x="0:1:2", n="6:7", budget="3trials")
    assert len(few.trials) == 3
    found, output = run(tmp_path, search=search, x="0:1:2", n="6:7", budget="10trials")
    new = [t for t in found.trials if t.number >= 3]
    assert found.finished and {(t.knobs["x"], t.knobs["n"]) for t in found.trials} == {(0, 6), (0, 7), (1, 6), (1, 7)}
    assert all(t.same_as is None for t in new) and len(fake.calls) == 4
    two, _ = run(tmp_path, search=search, x="0.1,0.2", n="7")
    assert [t.knobs["x"] for t in two.trials] == [0.2, 0.1] and two.finished and len(fake.calls) == 6


def test_a_trial_whose_worker_is_gone_is_found_and_its_own_is_left_alone(fake, tmp_path):
    """Two workers by hand: B takes over what A held, once A's lock is free, and not before."""
    run(tmp_path, search="random", budget="1trials")
    folder = next(tmp_path.iterdir())
    known = read_json(folder / "sweep.json")
    write_json(folder / "sweep.json", {**known, "budget": {"trials": 3, "seconds": None, "steps": None}})
    a, b = opened(folder), opened(folder)
    first = claim(*a)
    assert first.trial.number == 1
    second = claim(*b)
    assert second.trial.number == 2
    assert claim(*b) == "3 trials"  # all begun, and those that run are alive
    first.trial.report(1.0, 1)
    first.lock.close()  # what the system does when a process dies
    taken = claim(*b)
    assert taken.trial.number == 1 and taken.knobs == first.knobs and taken.folder == first.folder
    assert taken.trial.user_attrs["lives"] == [0, 0]
    assert claim(*a) == "3 trials"
    for held in (second, taken):
        held.lock.close()


def test_what_ends_its_worker_every_time_is_given_up(fake, tmp_path):
    run(tmp_path, search="random", budget="1trials")
    folder = next(tmp_path.iterdir())
    made, study = opened(folder)
    write_json(folder / "sweep.json", {**read_json(folder / "sweep.json"), "budget": studies.Budget(2)._asdict()})
    for _ in range(3):
        claimed = claim(made, study)
        assert claimed.trial.number == 1
        claimed.lock.close()
    assert claim(made, study) == "2 trials"
    last = study.trials[1]
    assert last.state.name == "FAIL" and last.user_attrs["error"] == "its worker died 3 times after step 0"


def test_a_trial_that_gets_further_in_each_life_is_not_given_up(fake, tmp_path):
    run(tmp_path, search="random", budget="1trials")
    folder = next(tmp_path.iterdir())
    made, study = opened(folder)
    write_json(folder / "sweep.json", {**read_json(folder / "sweep.json"), "budget": studies.Budget(2)._asdict()})
    for life in range(1, 8):
        claimed = claim(made, study)
        meta = claimed.folder / "checkpoints" / str(life) / "meta"
        meta.mkdir(parents=True)
        write_meta(meta, {"format": FORMAT, "score": 0.0})
        claimed.lock.close()
    assert claimed.trial.number == 1 and claimed.trial.user_attrs["lives"] == [0, 1, 2, 3, 4, 5, 6]


def test_evaluations_that_are_made_again_are_reported_once(fake, tmp_path, monkeypatch):
    """A run that goes on from a checkpoint tells again what it evaluated after it."""
    monkeypatch.setattr(worker, "train", break_off(fake, 0, 5))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, search="random", budget="1trials", stopping="asha")
    found, _ = run(tmp_path, search="random", budget="1trials", stopping="asha")
    trial = opened(found.folder)[1].trials[0]
    assert list(trial.intermediate_values) == list(range(1, STEPS + 1))
    assert trial.user_attrs["work"]["evaluated"] == list(range(1, STEPS + 1)) and found.trials[0].steps == STEPS


def test_an_orphaned_lock_of_the_journal_is_taken_after_a_grace_period(fake, tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "GRACE", 3)
    found, _ = run(tmp_path, search="random", budget="1trials")
    (found.folder / "journal.log.lock").symlink_to(found.folder / "journal.log")  # as a killed writer leaves it
    began = time.monotonic()
    found, _ = run(tmp_path, search="random", budget="2trials")
    assert len(found.trials) == 2 and 2.5 < time.monotonic() - began < 12
    assert not (found.folder / "journal.log.lock").is_symlink()


@pytest.mark.parametrize("continued", [False, True], ids=["torn at its end", "with a line appended to the torn one"])
@pytest.mark.parametrize("part", [b'{"op_code":8,"worker_id":"a', b"\0" * 40, b'{"op_code":1}'])
def test_a_torn_line_of_the_journal_is_set_aside(fake, tmp_path, capsys, part, continued):
    found, _ = run(tmp_path, search="grid", x="0:1:2", n="6")
    path, trials = found.folder / "journal.log", len(found.trials)
    whole = path.read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    path.write_bytes(whole[: -len(last)] + part + last if continued else whole + part)
    found, _ = run(tmp_path, search="grid", x="0:1:2", n="6")
    assert found.finished and len(found.trials) == trials and path.read_bytes().startswith(whole)
    assert (found.folder / "journal.log.damaged").read_bytes() == part + b"\n"
    assert "1 incomplete line(s)" in capsys.readouterr().err and all(map(json.loads, path.read_text().splitlines()))


def test_a_line_that_another_worker_left_torn_is_set_aside_before_the_next(fake, tmp_path):
    found, _ = run(tmp_path, search="grid", x="0:1:2", n="6")
    _, study = settle(found.folder)
    with open(found.folder / "journal.log", "ab") as file:
        file.write(b'{"op_code":8,"wor')
    study.set_user_attr("note", 1)
    assert settle(found.folder)[1].user_attrs == {"note": 1}
    assert (found.folder / "journal.log.damaged").read_bytes() == b'{"op_code":8,"wor\n'


def test_a_damaged_line_among_the_others_is_named(fake, tmp_path):
    """The numbers of trials depend on it."""
    found, _ = run(tmp_path, search="grid", x="0:1:2", n="6")
    path = found.folder / "journal.log"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b"{" + lines[2][5:], *lines[3:]]))
    with pytest.raises(UserError, match=r"line 3 of .*journal.log is damaged"):
        run(tmp_path, search="grid", x="0:1:2", n="6")
    assert not (found.folder / "journal.log.lock").is_symlink()


def test_a_sweep_on_a_full_disk_goes_on_when_there_is_space(fake, tmp_path, monkeypatch):
    """The disk is a small tmpfs; a file fills it while the third trial runs."""
    disk, expected = tmp_path / "disk", tmp_path / "expected"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting needs root")
    try:
        filled = []

        def fill(knobs, step):
            if fake.calls[-1][0] == "0002" and step == 5 and not filled:
                filled.append(step)
                with contextlib.suppress(OSError), open(disk / "filler", "wb", buffering=0) as file:
                    while file.write(b"x" * 64):
                        pass
            return cost(knobs, step)

        monkeypatch.setattr(worker, "train", fake._replace(value=fill))
        options = {"search": "grid", "x": "0:1:2", "n": "6,7"}
        with pytest.raises(UserError, match="No space left on device"):
            run(disk, folder=disk / "sweep", **options)
        assert not (disk / "sweep" / "journal.log").read_bytes().endswith(b"\n")
        (disk / "filler").unlink()
        found, _ = run(disk, folder=disk / "sweep", **options)
        assert found.finished and [t.state for t in found.trials] == ["finished"] * 4
        undisturbed, _ = run(expected, **options)
        assert [(t.knobs, t.value) for t in found.trials] == [(t.knobs, t.value) for t in undisturbed.trials]
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_trial_whose_run_meets_a_full_disk_is_resumed(fake, tmp_path, monkeypatch):
    """However often; it has not failed, and its worker has not died."""
    full = [True] * 5

    def value(knobs, step):
        if fake.calls[-1][0] == "0001" and full:
            full.pop()
            raise UserError("cannot write a checkpoint: No space left on device")
        return cost(knobs, step)

    monkeypatch.setattr(worker, "train", fake._replace(value=value))
    for _ in range(5):
        with pytest.raises(UserError, match="No space left"):
            run(tmp_path, search="grid", x="0:1:2", n="6")
    found, _ = run(tmp_path, search="grid", x="0:1:2", n="6")
    assert found.finished and [t.state for t in found.trials] == ["finished"] * 2


def test_failures_are_told_apart_from_deaths(fake, tmp_path, monkeypatch):
    def value(knobs, step):
        if knobs["n"] > 10:
            raise RuntimeError(f"out of memory at width {knobs['n']}")
        return float("nan") if knobs["n"] == 2 and step == STEPS else cost(knobs, step)

    monkeypatch.setattr(worker, "train", Fake(value, []))
    found, output = run(tmp_path, search="grid", x="0.3:0.4:2", n="2,7,11,12")
    assert found.finished and [t.state for t in found.trials] == ["finished"] * 2 + ["failed"] * 6
    errors = {t.knobs["n"]: t.error for t in found.trials if t.state == "failed"}
    assert errors[12] == "RuntimeError: out of memory at width 12" and "valid/cost is nan" in errors[2]
    assert "out of memory at width 11" in output and found.trials[0].knobs == {"x": 0.3, "n": 7}


def test_what_fails_alike_three_times_is_not_the_knobs(fake, tmp_path, monkeypatch):
    def value(knobs, step):
        raise OSError("no space left")

    monkeypatch.setattr(worker, "train", Fake(value, []))
    with pytest.raises(UserError, match="last 3 trials failed with the same error: OSError: no space left"):
        run(tmp_path, search="random", budget="9trials")


def test_the_objective_is_that_of_the_best_checkpoint_or_as_given(fake, tmp_path):
    found, _ = run(tmp_path, budget="1trials")
    assert (read_sweep(found.folder).metric, read_sweep(found.folder).mode) == ("valid/cost", "min")
    worst, _ = run(tmp_path, search="grid", mode="max", x="0:1:2", n="1,7")
    assert worst.trials[0].knobs == {"x": 1.0, "n": 1}  # the highest cost
    with pytest.raises(UserError, match="the mode of end/cost is unknown. Give --mode"):
        run(tmp_path, metric="end/cost")
    with pytest.raises(UserError, match="Did you mean 'valid/...'.*Valid: end/..., valid/..."):
        run(tmp_path, metric="vald/cost", mode="min")
    with pytest.raises(UserError, match="unknown metric of 'valid' 'cst'. Did you mean 'cost'"):
        run(tmp_path, metric="valid/cst", mode="min")
    with pytest.raises(UserError, match="--stopping asha needs 'end' during training"):
        run(tmp_path, metric="end/cost", mode="min", stopping="asha")


def test_without_a_best_checkpoint_the_metric_is_asked_for(tmp_path):
    text = FILE.read_text().replace(', best=Best("valid/cost", "min")', "")
    file = tmp_path / "bare.py"
    file.write_text(text)
    with pytest.raises(UserError, match="give --metric, such as --metric valid/loss, .* Evaluations: valid, end"):
        sweep(file, runs=tmp_path, stream=io.StringIO(), x="0:1")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"search": "tpee"}, "unknown search 'tpee'. Did you mean 'tpe'. Valid: evolution, gp, grid, random, tpe"),
        ({"stopping": "asa"}, "unknown stopping 'asa'. Did you mean 'asha'"),
        ({"mode": "mx"}, "unknown mode 'mx'. Did you mean 'max'"),
        ({"workers": -1}, "workers must be 0 .* or more, not -1"),
        ({"budget": "9tials"}, "Did you mean 'trials'"),
        ({"search": "grid"}, "a grid needs the number of values of x, such as -1.0:1.0:5"),
        ({"rte": "1:2"}, "unknown knob 'rte'. Did you mean 'rate'"),
    ],
)
def test_mistakes_are_answered_before_anything_is_written(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        run(tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_a_sweep_is_one_source_and_one_search(fake, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(FILE.read_text())
    options = {"runs": tmp_path / "runs", "stream": io.StringIO(), "search": "random", "x": "0:1"}
    found = sweep(file, budget="1trials", **options)
    file.write_text(FILE.read_text() + "\n# another thought\n")
    with pytest.raises(UserError, match="mine.py was edited after the sweep in .* Undo the edit, or .* --folder"):
        sweep(file, budget="2trials", **options)
    other = sweep(file, budget="1trials", **{**options, "folder": tmp_path / "other"})
    assert other.folder == tmp_path / "other" and len(other.trials) == 1
    with pytest.raises(UserError, match="contains another sweep .*seed: 0 there, 1 given"):
        sweep(file, budget="1trials", seed=1, **{**options, "folder": tmp_path / "other"})
    with pytest.raises(UserError, match="is not a sweep folder. Did you mean 'other'"):
        read_sweep(tmp_path / "othr")
    # A worker reads the sweep's own copy: it may be edited while they work.
    assert read_sweep(found.folder).file == str(found.folder / "source" / "mine.py")


def test_a_missing_library_names_the_extra(monkeypatch, tmp_path):
    import builtins

    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name == "optuna":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UserError, match=r"pip install -e '.\[sweep\]'"):
        run(tmp_path)


def test_half_a_grid_in_the_queue_is_completed(fake, tmp_path, monkeypatch):
    """A kill while the queue was filled."""
    count, real = [0], optuna.study.Study.enqueue_trial

    def dying(self, *args, **kwargs):
        count[0] += 1
        if count[0] == 3:
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    monkeypatch.setattr(optuna.study.Study, "enqueue_trial", dying)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, search="grid", x="0:1:3", n="6,7")
    found, _ = run(tmp_path, search="grid", x="0:1:3", n="6,7")
    assert [(k["x"], k["n"]) for _, k in fake.calls] == [(x, n) for x in (0.0, 0.5, 1.0) for n in (6, 7)]
    assert len(found.trials) == 6


def test_the_mutex_lets_one_in(tmp_path):
    import threading

    inside, most = [0], [0]

    def enter():
        for _ in range(20):
            with mutex(tmp_path):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.0005)
                inside[0] -= 1

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


def test_a_lock_is_held_once(tmp_path):
    first, other = hold(tmp_path, 3), hold(tmp_path, 4)
    assert hold(tmp_path, 3) is None and other is not None
    first.close()
    again = hold(tmp_path, 3)
    assert again is not None
    for file in (other, again):
        file.close()


def test_make_sweep_keeps_what_was_found_of_the_objective(fake, tmp_path):
    found, _ = run(tmp_path, budget="1trials")
    before = read_sweep(found.folder)
    run(tmp_path, budget="2trials")
    assert read_sweep(found.folder) == before._replace(budget=studies.Budget(trials=2))
