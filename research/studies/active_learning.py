"""Active learning as a loop over runs: train, score the records without a label, take the labels of the best, repeat.

    active_learning("experiments/active.py", score="margin", rounds=8)[-1].results["test"]["accuracy"]

The experiment needs a knob `labelled: tuple[int, ...]`, the numbers of the records that it may train on, and an
evaluation "pool" of all records that could be labelled, in order, with `measure_classification`. Every round is an
ordinary run folder, whose knobs name its records; the same command resumes.
"""

import functools
import os
import sys
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from research.data.labels import choose
from research.data.sampling.batches import check_seed, generator
from research.distributed.job import join
from research.errors import UserError, unknown
from research.runs.experiment_file import load
from research.runs.knobs import knobs_of
from research.runs.opened import knob_values, make_experiment
from research.system.archive import read_npz
from research.verbs import RunResult, train

ONE = {"uncertainty": choose.uncertainty, "margin": choose.margin, "entropy": choose.entropy}
COMMITTEE = {"vote_entropy": choose.vote_entropy, "information": choose.information}
SCORES = ("random", *ONE, *COMMITTEE, "core_set")


class Round(NamedTuple):
    """One round: the records with a label, the run of each member, and the means of their metrics."""

    labelled: tuple[int, ...]
    runs: list[RunResult]
    results: Mapping[str, Mapping[str, float]]


def active_learning(
    file: str | os.PathLike, *, score: str = "margin", first: int = 20, add: int = 20, rounds: int = 5,
    members: int = 0, seed: int = 0, report: bool = False, stream=None, **options,
) -> list[Round]:  # fmt: skip
    """Choose the records to label: train on a few labels, score the others, label the best, and repeat.

    Finished runs are not trained again. After a preemption, the same command resumes.

    file: an experiment file with the knob `labelled` and an evaluation "pool", such as experiments/active.py
    score: random, uncertainty, margin, entropy, vote_entropy, information or core_set
    first: the number of records with a label in the first round, drawn at random
    add: the number of records to label after each round
    rounds: the number of rounds
    members: runs per round, with consecutive seeds (default 3 for vote_entropy and information, otherwise 1)
    seed: the seed of the first choice of records, and of the first member of a round
    report: write the report of every run

    From Python, `options` are the arguments of `train`, except `labelled` and `run_dir`. `core_set` measures distances
    between log-odds. After a preemption, the rounds up to it are returned. Raises UserError for an unknown score, an
    experiment without the knob or the evaluation, and more labels than records.
    """
    if score not in SCORES:
        raise unknown("score", score, SCORES)
    loaded = load(file)
    knobs = knobs_of(loaded.function)
    if "labelled" not in knobs:
        raise UserError(
            f"{loaded.name} has no knob 'labelled'; active learning needs `labelled: tuple[int, ...] = ()`."
        )
    for name in ("labelled", "run_dir"):
        if options.pop(name, None) is not None:
            raise UserError(f"{name} was given, but active learning chooses the records and their folders; remove it.")
    members = members or (3 if score in COMMITTEE else 1)
    if members < 2 and score in COMMITTEE:
        raise UserError(f"score={score} compares the members of a committee; members={members}, expected 2 or more.")
    echo = functools.partial(print, file=stream or sys.stdout) if join().rank == 0 else lambda *_: None
    experiment = make_experiment(loaded, knob_values(loaded, {k: v for k, v in options.items() if k in knobs}))
    if "pool" not in experiment.evals:
        raise UserError(f"{loaded.name} has no evaluation 'pool'; expected one of all records that could be labelled.")
    count = experiment.evals["pool"].source.examples
    if first < 1 or add < 1 or first + add * (rounds - 1) > count:
        raise UserError(
            f"first={first} and add={add} in {rounds} rounds need more than the {count} records of the pool."
        )
    rng = generator(check_seed(seed), "active learning")
    labelled, done = np.sort(rng.permutation(count)[:first]), []
    for number in range(rounds):
        runs = []
        for member in range(members):
            indices = tuple(int(i) for i in labelled)
            run = train(loaded, seed=seed + member, report=report, stream=stream, labelled=indices, **options)
            runs.append(run)
            if run.status != "finished":
                echo(f"round {number} of {rounds} was interrupted; run the same command again to resume.")
                return done
        done.append(Round(tuple(map(int, labelled)), runs, _means([run.results for run in runs])))
        shown = "  ".join(
            f"{k} {v:.4f}" for k, v in done[-1].results.get("test", {}).items() if k in ("accuracy", "loss")
        )
        echo(f"round {number}: {len(labelled)} labels  {shown}")
        if number < rounds - 1:
            labelled = np.sort(np.concatenate([labelled, _chosen(score, runs, labelled, add, rng)]))
    return done


active_learning.options_of = train  # its command line has the options of `train`


def _means(results):
    return {name: {k: float(np.mean([r[name][k] for r in results])) for k in results[0][name]} for name in results[0]}


def _chosen(score, runs, labelled, add, rng):
    """Return `add` records without a label: those with the highest score; of equal scores, a random one."""
    rows = [_rows(run.folder) for run in runs]
    free = np.setdiff1d(np.arange(len(rows[0]["probabilities"])), labelled)
    if score == "core_set":
        return choose.core_set(rows[0]["log_odds"], labelled, count=add)
    order = rng.permutation(free)  # also for random choice
    if score == "random":
        return order[:add]
    probabilities = np.stack([row["probabilities"] for row in rows])
    values = COMMITTEE[score](probabilities) if score in COMMITTEE else ONE[score](probabilities.mean(0))
    return order[np.argsort(-values[order], kind="stable")[:add]]


def _rows(folder):
    with open(folder / "evaluations" / "pool.npz", "rb") as file:
        arrays = read_npz(file)
    rows = {name: arrays.get(f"row/{name}") for name in ("probabilities", "log_odds")}
    if rows["probabilities"] is None:
        raise UserError("the evaluation 'pool' has no rows of probabilities; expected measure_classification.")
    return rows
