"""Blocks that several models share, as `flax.nnx` modules and pure functions.

A module is called as `layer(x, *, train, rngs)` if it behaves differently in training, else as `layer(x)`. It holds no
random state. Parameters go by path: rules of sharding, decay and freezing match names such as `attention/q/kernel`.

    dense           linear, embedding, initializers
    convolution     convolution
    normalisation   batch_norm, layer_norm
    pooling         pooling
    attention       attention (heads, masks), ring (rows split over devices), transformer (the pre-LN block)
    many layers     stack (scanned), pipeline (stages on devices), experts (mixture of experts)
    gradients       gradient_reversal

To add one, copy `batch_norm.py`.
"""
