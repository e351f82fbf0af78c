"""Federated data: non-iid splits of records over clients, and a Source of federated training rounds."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from research.data.readers import records
from research.data.readers.arrays import data_set
from research.data.sampling.batches import check_seed, check_size, generator, read
from research.data.sampling.mixture import largest_remainder
from research.data.sampling.source import epoch_steps
from research.errors import UserError


@dataclasses.dataclass(frozen=True)
class Rounds:
    """Federated rounds of `size` clients; calling it with a seed returns a Source. Created by `rounds`."""

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
        """The number of clients: in one epoch of the run, each client takes part once on average."""
        return len(self.parts)

    def __call__(self, seed: int):
        """Return the Source of a seed: `batch_at(round, rows=slice(None)) -> {field: [rows, local_steps, B, ...]}`."""
        seed = check_seed(seed)

        def batch_at(step, rows=slice(None)):
            clients = generator(seed, "clients", step).permutation(len(self.parts))[: self.size][rows]
            walks = [self._walk(seed, step, int(client)) for client in clients]
            epochs, indices, real = (np.concatenate(x) for x in zip(*walks, strict=True))
            columns = read(self.data, indices, epochs=epochs, augment=self.augment, seed=seed)
            fields = records.numbers(columns)
            if "mask" in fields:
                raise UserError("the records have a field 'mask', which rounds adds; rename it with mapped(data, fn).")
            shape = (len(clients), self.local_steps, self.batch_size)
            fields["mask"] = real.astype(np.float32)
            return {name: x.reshape(*shape, *x.shape[1:]) for name, x in fields.items()}

        return batch_at

    def _walk(self, seed, step, client):
        """Return (epochs, indices, real), each [local_steps * B]: the records of one client in one round, in order."""
        part = self.parts[client]
        positions = np.arange(self.local_steps * self.batch_size, dtype=np.int64)
        passes, offsets = np.divmod(positions, max(1, len(part)))
        real = (passes < self.epochs) & (len(part) > 0)
        indices = np.full(len(positions), part[0] if len(part) else 0, np.int64)
        for epoch in np.unique(passes[real]):
            order = generator(seed, "client", step, client, int(epoch)).permutation(part)
            in_epoch = real & (passes == epoch)
            indices[in_epoch] = order[offsets[in_epoch]]
        return step * self.epochs + np.where(real, passes, 0), indices, real


def rounds(data, parts, *, clients: int, batch_size: int, epochs: int = 1, local_steps: int | None = None,
           augment=None) -> Rounds:  # fmt: skip
    """Create batches for `federated`: `rounds(...)(seed)(round)` is {field: [clients, local_steps, B, ...]}.

    `parts` has the record numbers of every client, as returned by `dirichlet` and `shards`. Each round samples
    `clients` of them without replacement. A client passes `epochs` times over its own records, in a new order for each
    pass; the last batch of a pass continues with the next pass. `local_steps` is the number of batches of `batch_size`
    per client; the default is enough for the largest client. With fewer, a client with more records trains on a random
    subset of them in each round. The remainder is padding (a valid record) with mask 0; "mask" is f32 [clients,
    local_steps, B]. A client without records has padding only.

    `size` is the number of clients in a round. Devices and processes divide the clients: `rows` selects clients, and
    only their records are read. `augment(rng, record)` as in `batches`. `examples` is the number of all clients, thus
    in one epoch of a Duration each client takes part in one round on average.

    Raises UserError for no or too few clients, no records at all, record numbers out of range, epochs or steps below 1,
    and records with a field `mask`.
    """
    data = data_set(data)
    count = len(data)
    parts = tuple(np.asarray(part, np.int64) for part in parts)
    size, batch_size = check_size(clients), check_size(batch_size)
    if size > len(parts):
        raise UserError(f"rounds of {size} clients; expected at most {len(parts)}, the number of parts.")
    largest = max(len(part) for part in parts)
    if not largest:
        raise UserError("no client has a record; expected at least one record number in parts.")
    if any(len(part) and not 0 <= part.min() <= part.max() < count for part in parts):
        raise UserError(f"a client has records outside 0 to {count - 1}, the records of the data set.")
    if epochs < 1 or (local_steps is not None and local_steps < 1):
        raise UserError(f"rounds of {epochs} epochs and {local_steps} local steps; expected at least 1.")
    local_steps = local_steps or -(-largest * epochs // batch_size)
    return Rounds(data, parts, size, batch_size, local_steps, epochs, augment)


def dirichlet(labels, clients: int, *, alpha: float, seed: int, sizes=None) -> list[np.ndarray]:
    """Split records over clients with Dirichlet class proportions (Hsu et al. 2019, section 3).

    Returns the record numbers of each client, i64, ascending; every record belongs to exactly one client. Each client
    draws class probabilities from Dirichlet(alpha * p), where p are the class frequencies of `labels` [n]. It then
    draws its records with these probabilities, without replacement; exhausted classes are excluded. As alpha goes to
    infinity (`math.inf` is allowed), clients become iid. As alpha goes to 0, each client has one class, until classes
    are exhausted. For papers with the concentration a for each of C classes, use alpha = a * C. `sizes` (one weight per
    client) sets the proportions of their records; by default their numbers of records differ by at most one. With more
    clients than records, or with small weights, some clients are empty. As in `stratified`, the seed belongs to the
    split, not to the run.

    Raises UserError for labels that are not [n], fewer than 1 client, an alpha that is not positive, and invalid
    `sizes`.
    """
    classes, rng = _classes(labels, clients, seed)
    if not alpha > 0:
        raise UserError(f"dirichlet with alpha={alpha}; expected a positive number or math.inf (iid clients).")
    sizes = np.ones(clients) if sizes is None else np.asarray(sizes, np.float64)
    if sizes.shape != (clients,) or not np.all(sizes >= 0) or not 0 < sizes.sum() < math.inf:
        raise UserError(f"sizes {sizes.tolist()}; expected a weight of at least 0 for each of the {clients} clients.")
    members = [rng.permutation(np.flatnonzero(classes == c)) for c in range(classes.max() + 1)]
    left = np.array([len(member) for member in members])
    prior = left / left.sum()
    parts = []
    for missing in largest_remainder(sizes, len(classes)):
        probabilities, part = _probabilities(rng, alpha * prior, prior), [np.empty(0, np.int64)]
        while missing:
            probabilities = np.where(left > 0, probabilities, 0)
            if not probabilities.sum() > 0:
                # All its classes are exhausted. A Dirichlet draw restricted to the other classes is Dirichlet too.
                probabilities = np.zeros(len(prior))
                rest = left > 0
                probabilities[rest] = _probabilities(rng, alpha * prior[rest], prior[rest])
            drawn = np.minimum(rng.multinomial(missing, probabilities / probabilities.sum()), left)
            part += [member[n - k : n] for member, n, k in zip(members, left, drawn, strict=True)]
            left, missing = left - drawn, missing - drawn.sum()
        parts.append(np.sort(np.concatenate(part)))
    return parts


def shards(labels, clients: int, *, seed: int, per_client: int = 2) -> list[np.ndarray]:
    """Split records over clients by shards of sorted labels (McMahan et al. 2017, section 3).

    Returns the record numbers of each client, i64, ascending; every record belongs to exactly one client. The records
    are sorted by label and split into clients * per_client shards, whose sizes differ by at most one record. Each
    client gets `per_client` random shards.

    Raises UserError for labels that are not [n], and for fewer than 1 client or shard.
    """
    classes, rng = _classes(labels, clients, seed)
    shuffled = rng.permutation(len(classes))
    order = shuffled[np.argsort(classes[shuffled], kind="stable")]
    pieces = np.array_split(order, clients * check_size(per_client))
    assignment = rng.permutation(len(pieces)).reshape(clients, per_client)
    return [np.sort(np.concatenate([pieces[i] for i in assigned])) for assigned in assignment]


def _classes(labels, clients, seed):
    """Return the labels as class numbers, and the random generator of the split."""
    labels = np.asarray(labels)
    if labels.ndim != 1 or not len(labels):
        raise UserError(f"labels of shape {list(labels.shape)}; expected one label per record, [n].")
    if clients < 1:
        raise UserError(f"a split over {clients} clients; expected at least 1.")
    return np.unique(labels, return_inverse=True)[1], generator(check_seed(seed), "clients")


def _probabilities(rng, concentrations, prior):
    return rng.dirichlet(concentrations) if np.all(np.isfinite(concentrations)) else prior / prior.sum()
