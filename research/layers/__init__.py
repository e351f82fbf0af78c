"""Building blocks that several models share: `flax.nnx` modules and pure functions.

Call a module as `layer(x, *, train, rngs)` if it behaves differently in training, otherwise as `layer(x)`. A module
holds no random state. Sharding, weight decay and freezing rules match param paths such as `attention/q/kernel`;
renaming an attribute changes these paths and breaks old checkpoints.

    dense           linear, embedding, initializers
    convolution     convolution
    activations     activations (those that jax.nn lacks, gated linear units)
    normalisation   batch_norm, layer_norm, rms_norm
    pooling         pooling
    attention       attention (heads, masks), cache (keys and values of earlier tokens), ring (sequences split over
                    devices), transformer (the block)
    positions       positions (fixed), rotary (by rotation), relative_bias (by distance)
    many layers     stack (scanned), pipeline (stages on devices), experts (mixture of experts)
    recurrent       recurrent (RNN, LSTM, GRU, stacks), vector_attention (of one query vector; pooling)
    sequences       crf (linear chain)
    gradients       gradient_reversal

To add a layer, copy `batch_norm.py`.
"""
