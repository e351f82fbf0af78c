"""Input: uint8 images to augmented f32 batches on the device (crop, flip, normalise). A step is one batch of them."""

import functools

import numpy as np

from tests.benchmarks import works
from tests.benchmarks.turns import Gate, serve, turns

MEAN, STD = (0.491, 0.482, 0.447), (0.247, 0.243, 0.262)  # of CIFAR-10's colours


def images(s) -> dict[str, np.ndarray]:
    """Random images of the size of CIFAR-10's, and labels."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (s.images, s.size, s.size, 3), np.uint8)
    return {"image": pixels, "label": rng.integers(0, 10, s.images).astype(np.int32)}


def ours(work: works.Work, gate: Gate):
    """`batches` gathers on the host, `prefetch` places, and the augmentation is jitted, as inside a train step."""
    import jax

    from research.augment.image import crop_and_flip, normalize
    from research.core import draw
    from research.data import arrays, batches
    from research.data.sampling.prefetch import prefetch

    s = work.sizes
    source = batches(arrays(**images(s)), s.batch)(0)
    augment = crop_and_flip(padding=s.padding)

    @jax.jit
    def augmented(step, batch):
        batch = augment(draw(0, step), batch)
        return {**batch, "image": normalize(batch["image"], mean=MEAN, std=STD)}

    ahead = enumerate(prefetch(source, 0, 10**9, place=jax.device_put))

    def one():
        step, (batch, _) = next(ahead)
        return augmented(np.uint32(step), batch)

    turns(gate, one, wait=jax.block_until_ready)


def floor(work: works.Work, gate: Gate):
    """A gather of numpy and the same augmentation by hand in one jitted function, one after the other."""
    import jax
    import jax.numpy as jnp

    s, data, rng = work.sizes, images(work.sizes), np.random.default_rng(0)
    scale, shift = 1 / (255 * np.array(STD, np.float32)), np.array(MEAN, np.float32) / np.array(STD, np.float32)

    @jax.jit
    def augmented(key, x):
        crop, mirror = jax.random.split(key)
        x = jnp.pad(x, ((0, 0), (s.padding,) * 2, (s.padding,) * 2, (0, 0)))
        corners = jax.random.randint(crop, (s.batch, 2), 0, 2 * s.padding + 1)
        x = jax.vmap(lambda x, at: jax.lax.dynamic_slice(x, (*at, 0), (s.size, s.size, 3)))(x, corners)
        x = jnp.where(jax.random.bernoulli(mirror, 0.5, (s.batch, 1, 1, 1)), x[:, :, ::-1], x)
        return x.astype(jnp.float32) * scale - shift

    def endless():
        while True:
            order = rng.permutation(s.images)
            yield from (order[i : i + s.batch] for i in range(0, s.images - s.batch + 1, s.batch))

    chosen = enumerate(endless())

    def one():
        step, rows = next(chosen)
        return augmented(jax.random.fold_in(jax.random.key(0), step), data["image"][rows]), data["label"][rows]

    turns(gate, one, wait=jax.block_until_ready)


def torch_loader(work: works.Work, gate: Gate, *, workers: int):
    """torch's DataLoader over a Dataset that augments one image after the other, as torchvision's transforms do."""
    import torch
    from torch.utils.data import DataLoader, Dataset

    s, data = work.sizes, images(work.sizes)
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (MEAN, STD))

    class Images(Dataset):
        def __len__(self):
            return s.images

        def __getitem__(self, i):
            x = torch.from_numpy(data["image"][i]).permute(2, 0, 1)
            x = torch.nn.functional.pad(x, (s.padding,) * 4)
            top, left = torch.randint(0, 2 * s.padding + 1, (2,)).tolist()
            x = x[:, top : top + s.size, left : left + s.size]
            x = x.flip(2) if torch.rand(()) < 0.5 else x
            return (x.float() / 255 - mean) / std, int(data["label"][i])

    loader = DataLoader(
        Images(), s.batch, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0
    )  # fmt: skip

    def endless():
        while True:
            yield from loader

    batches = endless()
    turns(gate, lambda: next(batches), wait=lambda _: None)


def tf_data(work: works.Work, gate: Gate):
    """tf.data, augmenting a batch at a time, which is several times as fast as an image at a time."""
    import tensorflow as tf

    s, data = work.sizes, images(work.sizes)

    def augmented(batch):
        x = tf.pad(batch["image"], ((0, 0), (s.padding,) * 2, (s.padding,) * 2, (0, 0)))
        for axis in (1, 2):
            corner = tf.random.uniform((s.batch, 1), 0, 2 * s.padding + 1, tf.int32)
            x = tf.gather(x, corner + tf.range(s.size), axis=axis, batch_dims=1)
        x = tf.where(tf.random.uniform((s.batch, 1, 1, 1)) < 0.5, x[:, :, ::-1], x)
        return {**batch, "image": (tf.cast(x, tf.float32) / 255 - MEAN) / STD}

    made = tf.data.Dataset.from_tensor_slices(data).shuffle(s.images).repeat().batch(s.batch, drop_remainder=True)
    ahead = iter(made.map(augmented, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE))
    turns(gate, lambda: next(ahead), wait=lambda _: None)


if __name__ == "__main__":
    loaders = {f"torch-{n}": functools.partial(torch_loader, workers=n) for n in (0, 2)}
    serve({"ours": ours, "floor": floor, "tf-data": tf_data, **loaders})
