"""Small networks that are really trained on the digits, as run folders: recipes, seeds, and what becomes of them."""

import json
from pathlib import Path

import jax
import numpy as np

from experiments.digits import experiment
from research.core import State, draw, gradient, train_step
from research.distributed.sharding import make_mesh
from research.evaluate import evaluator
from research.experiment import wire
from research.runs.folder import save_evaluation
from tests.report.runs import about, write_json, write_lines

FILE = "def experiment(*, learning_rate: float = 4e-3, shuffle: int = 0, width: tuple = (8, 8)):\n    pass\n"


def train(root, *, learning_rate=4e-3, seeds=(0,), shuffle=0, epochs=8):
    """Run folders of the digits' perceptron, one a seed. `shuffle` is a knob that changes nothing."""
    ex = experiment(network="mlp", epochs=epochs, learning_rate=learning_rate, batch_size=128)
    wired = wire(ex)
    step = jax.jit(train_step(gradient(wired.loss), wired.optimizer))
    begin = jax.jit(lambda seed: ex.init(draw(seed, "init")))
    tests = evaluator(ex.evals["test"], ex.apply, mesh=make_mesh({"data": 1}, devices=jax.devices()[:1]))
    folders = []
    for seed in seeds:
        params, stats = begin(np.uint32(seed))
        state = State(np.uint32(seed), np.uint32(0), np.int32(0), params, stats, wired.optimizer.init(params))
        source, lines = ex.source(seed), []
        for i in range(7 * epochs):
            state, metrics = step(state, source(i))
            lines.append({"step": i + 1, "train/loss": float(metrics["loss"].value())})
        results = tests(state)
        folder = Path(root) / f"digits-{learning_rate}-{shuffle}-s{seed}"
        knobs = {"learning_rate": learning_rate, "shuffle": shuffle, "width": "(8, 8)"}
        write_json(folder / "run.json", about(knobs=knobs, seed=seed, file="digits.py"))
        found = {"test": dict(results.numbers)}
        status = {"status": "finished", "step": 7 * epochs, "total": 7 * epochs, "results": found}
        write_json(folder / "status.json", status)
        lines += [{"step": 7 * epochs, **{f"test/{k}": v for k, v in results.numbers.items()}}]
        write_lines(folder / "metrics.jsonl", lines)
        save_evaluation(folder / "evaluations", "test", 7 * epochs, results)
        (folder / "source").mkdir()
        (folder / "source" / "digits.py").write_text(FILE)
        folders.append(folder)
    return folders


def changed(folder, **facts):
    """The folder with other facts in its run.json."""
    known = json.loads((folder / "run.json").read_text())
    write_json(folder / "run.json", {**known, **facts})
    return folder
