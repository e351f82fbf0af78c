"""Architectures, one file a family, as `flax.nnx` modules; `research.model.from_nnx` makes a Model of one.

A module is built from its sizes and `rngs=`, and called as `module(x, *, train, rngs)`. The signature of its call
states the shapes, its docstring the number of parameters and the paper. Changes of a Model from outside
(preprocessing, freezing, 16 bits) are in `research.wrappers`.

    vectors    mlp, heads (several outputs)
    images     cnn, fashion_cnn, patch_cnn, strided_cnn, resnet, vit, mae (masked autoencoder)
    tokens     gpt, lstm, generate (sampling)

To add one, copy `mlp.py`, or `vit.py` for one with options.
"""
