"""Few-shot tasks: small classification problems sampled from a labelled data set, for meta-learning."""

import dataclasses
from typing import Any

import numpy as np

from research.data.readers import records
from research.data.readers.arrays import data_set
from research.data.sampling.batches import check_seed, check_size, generator
from research.errors import UserError

SUPPORT, QUERY = "support_", "query_"


@dataclasses.dataclass(frozen=True)
class FewShot:
    """Batches of `size` tasks; calling it with a seed returns a Source. Created by `few_shot`."""

    data: Any
    by_class: tuple[np.ndarray, ...]
    size: int
    ways: int
    shots: int
    queries: int

    examples = None  # no epochs: tasks are sampled indefinitely

    def __call__(self, seed: int):
        """Return the Source of a seed (u32): `batch_at(step, rows=slice(None))`; see `few_shot`."""
        seed = check_seed(seed)

        def task(step, row):
            rng = generator(seed, "few_shot", step, row)
            classes = rng.choice(len(self.by_class), self.ways, replace=False)
            count = self.shots + self.queries
            drawn = np.stack([rng.choice(self.by_class[c], count, replace=False) for c in classes])
            return drawn[:, : self.shots].ravel(), drawn[:, self.shots :].ravel()

        def batch_at(step, rows=slice(None)):
            tasks = [task(step, int(row)) for row in np.arange(self.size)[rows]]
            batch = {}
            for prefix, indices, each in zip((SUPPORT, QUERY), zip(*tasks, strict=True), (self.shots, self.queries),
                                             strict=True):  # fmt: skip
                fields = records.numbers(records.columns(self.data, np.concatenate(indices)))
                fields["label"] = np.tile(np.repeat(np.arange(self.ways, dtype=np.int32), each), len(tasks))
                batch |= {prefix + k: x.reshape(len(tasks), self.ways * each, *x.shape[1:]) for k, x in fields.items()}
            return batch

        return batch_at


@dataclasses.dataclass(frozen=True)
class Held:
    """A fixed number of batches of tasks, for evaluation; created by `held`."""

    batch_at: Any
    count: int
    size: int

    data = None  # tasks are sampled, not read in order

    @property
    def examples(self) -> int:
        """The number of tasks."""
        return self.count * self.size

    def __len__(self):
        return self.count

    def __call__(self, step: int, rows=slice(None)):
        if not 0 <= step < self.count:
            raise IndexError(f"batch {step} of {self.count} batches of tasks")
        batch = self.batch_at(step, rows)
        return {**batch, "mask": np.ones(len(next(iter(batch.values()))), np.float32)}


def few_shot(data, labels, size: int, *, ways: int, shots: int, queries: int) -> FewShot:
    """Create training batches of `size` few-shot tasks (Vinyals et al. 2016).

    A task is a random choice of `ways` classes. Each class has `shots` support examples to learn from, and `queries`
    different query examples to test on.

    `few_shot(...)(seed)(step)` is {"support_x": [size, ways * shots, ...], "query_x": [size, ways * queries, ...]} for
    every field x of the records, grouped by class. The "label" numbers the classes of the task from 0. `labels` int [n]
    are the classes of `data`. Batches are pure and random-access; `rows` selects tasks, as in `batches`.

    Raises UserError if the number of labels differs from that of records, if there are fewer classes than ways, and if
    a class has fewer examples than shots + queries.
    """
    data, labels = data_set(data), np.asarray(labels)
    if len(labels) != len(data):
        raise UserError(f"{len(labels)} labels for {len(data)} records; expected one label per record.")
    by_class = tuple(np.flatnonzero(labels == c) for c in np.unique(labels))
    if len(by_class) < ways:
        raise UserError(f"{ways} ways need at least {ways} classes; the data have {len(by_class)}.")
    fewest = min(map(len, by_class))
    if fewest < shots + queries:
        raise UserError(f"{shots} shots and {queries} queries need {shots + queries} examples; a class has {fewest}.")
    return FewShot(data, by_class, check_size(size), ways, shots, queries)


def held(tasks: FewShot, *, count: int, seed: int) -> Held:
    """Create an evaluation source from the first `count` batches of `tasks` for a seed; the mask of every task is 1."""
    return Held(tasks(seed), count, tasks.size)
