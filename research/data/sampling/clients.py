"""Data that lie with clients: splits in which clients differ, and a Source of rounds of federated training."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from research.data.readers import records
from research.data.sampling.batches import check_seed, check_size, generator, read
from research.data.sampling.mixture import largest_remainder
from research.data.sampling.source import epoch_steps
from research.errors import UserError


@dataclasses.dataclass(frozen=True)
class Rounds:
    """Rounds of `size` clients, a Source for every seed; made by `rounds`."""

    data: Any
    parts: Sequence[np.ndarray]
    size: int
    batch_size: int
    local_steps: int
    epochs: int = 1
    augment: Callable | None = None

    steps = epoch_steps

    @property
    def examples(self) -> int:
        """Clients: an epoch of the run has as many rounds as it takes to ask each once on average."""
        return len(self.parts)

    def __call__(self, seed: int):
        """The Source of a seed (u32): `batch_at(round, rows=slice(None)) -> {field: [rows, local_steps, B, ...]}`."""
        seed = check_seed(seed)

        def batch_at(step, rows=slice(None)):
            chosen = generator(seed, "clients", step).permutation(len(self.parts))[: self.size][rows]
            walks = [self._walk(seed, step, int(client)) for client in chosen]
            epochs, indices, real = (np.concatenate(x) for x in zip(*walks, strict=True))
            found = read(self.data, indices, epochs=epochs, augment=self.augment, seed=seed)
            fields = records.numbers(found)
            if "mask" in fields:
                raise UserError("the records have a field 'mask', which rounds add themselves; rename it: mapped().")
            form = (len(chosen), self.local_steps, self.batch_size)
            fields["mask"] = real.astype(np.float32)
            return {name: x.reshape(*form, *x.shape[1:]) for name, x in fields.items()}

        return batch_at

    def _walk(self, seed, step, client):
        """(epochs, indices, real), each [local_steps * B]: a client's walk through its own records in a round."""
        part = self.parts[client]
        places = np.arange(self.local_steps * self.batch_size, dtype=np.int64)
        passes, offsets = np.divmod(places, max(1, len(part)))
        real = (passes < self.epochs) & (len(part) > 0)
        indices = np.full(len(places), part[0] if len(part) else 0, np.int64)
        for epoch in np.unique(passes[real]):
            order = generator(seed, "client", step, client, int(epoch)).permutation(part)
            here = real & (passes == epoch)
            indices[here] = order[offsets[here]]
        return step * self.epochs + np.where(real, passes, 0), indices, real


def rounds(data, parts, *, clients: int, batch_size: int, epochs: int = 1, local_steps: int | None = None,
           augment=None) -> Rounds:  # fmt: skip
    """Batches for `federated`: `rounds(data, parts, ...)(seed)(round)` is {field: [clients, local_steps, B, ...]}.

    `parts` are the record numbers of every client, as `dirichlet` and `shards` give them. Each round asks `clients` of
    them, drawn anew without replacement. A client goes `epochs` times through its own records, in a new order each
    time; a ragged batch wraps into its next pass. `local_steps` batches of `batch_size` hold what the largest client
    needs, or the number given: then a client that has more trains on some of it, drawn anew each round. What is left
    of the last batches is padding (a valid record) of mask 0; "mask" is f32 [clients, local_steps, B]. A client
    without records is all padding.

    `size` is the number of clients in a round, and is what devices and processes divide: `rows` picks clients, and
    only their records are read. `augment(rng, record)` as in `batches`. `examples` is the number of all clients, so
    that one epoch in a Duration is a round for each of them on average.

    Raises UserError for no or too few clients, parts with records that are not there, and records with a `mask`.
    """
    count = records.size_of(data)
    parts = tuple(np.asarray(part, np.int64) for part in parts)
    size, batch_size = check_size(clients), check_size(batch_size)
    if size > len(parts):
        raise UserError(f"rounds of {size} clients; there are {len(parts)}.")
    largest = max(len(part) for part in parts)
    if not largest:
        raise UserError("no client has a record.")
    if any(len(part) and not 0 <= part.min() <= part.max() < count for part in parts):
        raise UserError(f"a client has records outside 0 to {count - 1}, those of the data set.")
    if epochs < 1 or (local_steps is not None and local_steps < 1):
        raise UserError(f"rounds of {epochs} epochs and {local_steps} local steps; expected at least 1.")
    local_steps = local_steps or -(-largest * epochs // batch_size)
    return Rounds(data, parts, size, batch_size, local_steps, epochs, augment)


def dirichlet(labels, clients: int, *, alpha: float, seed: int, sizes=None) -> list[np.ndarray]:
    """Record numbers of each client, i64 ascending; every record with exactly one client (Hsu et al. 2019, section 3).

    A client draws its classes' probabilities from Dirichlet(alpha * p), where p are those of all `labels` [n], and
    then its records by them, without replacement; a class that is used up is left out. As alpha goes to infinity
    (`math.inf` is taken) clients are iid; as it goes to 0 they hold one class, until classes run out. Papers that give
    each of C classes the concentration a have alpha = a * C. `sizes` (a weight for every client) sets the proportion
    of their records; by default they are equal to within a record. With more clients than records, or with small
    weights, some are empty. Like that of `stratified`, the seed is the split's own, not the run's.

    Raises UserError for labels that are not [n], no clients, an alpha that is not positive, and sizes that do not fit.
    """
    classes, rng = _classes(labels, clients, seed)
    if not alpha > 0:
        raise UserError(f"dirichlet with alpha={alpha}; expected a positive number, or math.inf for iid clients.")
    sizes = np.ones(clients) if sizes is None else np.asarray(sizes, np.float64)
    if sizes.shape != (clients,) or not np.all(sizes >= 0) or not 0 < sizes.sum() < math.inf:
        raise UserError(f"sizes {sizes.tolist()}; expected a weight of at least 0 for each of the {clients} clients.")
    members = [rng.permutation(np.flatnonzero(classes == c)) for c in range(classes.max() + 1)]
    left = np.array([len(member) for member in members])
    prior = left / left.sum()
    parts = []
    for need in largest_remainder(sizes, len(classes)):
        wish, part = _probabilities(rng, alpha * prior, prior), [np.empty(0, np.int64)]
        while need:
            wish = np.where(left > 0, wish, 0)
            if not wish.sum() > 0:
                # None of its classes is left. What a Dirichlet draw says of the others is a Dirichlet draw too.
                wish = np.zeros(len(prior))
                rest = left > 0
                wish[rest] = _probabilities(rng, alpha * prior[rest], prior[rest])
            got = np.minimum(rng.multinomial(need, wish / wish.sum()), left)
            part += [member[n - k : n] for member, n, k in zip(members, left, got, strict=True)]
            left, need = left - got, need - got.sum()
        parts.append(np.sort(np.concatenate(part)))
    return parts


def shards(labels, clients: int, *, seed: int, per_client: int = 2) -> list[np.ndarray]:
    """Record numbers of each client, i64 ascending: the records sorted by label, cut into clients * per_client shards
    of one size (to within a record), and dealt out at random (McMahan et al. 2017, section 3). Every record once.

    Raises UserError for labels that are not [n], and no clients or shards.
    """
    classes, rng = _classes(labels, clients, seed)
    mixed = rng.permutation(len(classes))
    order = mixed[np.argsort(classes[mixed], kind="stable")]
    cut = np.array_split(order, clients * check_size(per_client))
    dealt = rng.permutation(len(cut)).reshape(clients, per_client)
    return [np.sort(np.concatenate([cut[i] for i in mine])) for mine in dealt]


def _classes(labels, clients, seed):
    """The labels as class numbers, and the split's generator."""
    labels = np.asarray(labels)
    if labels.ndim != 1 or not len(labels):
        raise UserError(f"labels of shape {list(labels.shape)}; expected one label a record, [n].")
    if clients < 1:
        raise UserError(f"a split over {clients} clients; expected at least 1.")
    return np.unique(labels, return_inverse=True)[1], generator(check_seed(seed), "clients")


def _probabilities(rng, concentrations, prior):
    return rng.dirichlet(concentrations) if np.all(np.isfinite(concentrations)) else prior / prior.sum()
