"""Blocks of transformers in PyTorch and in transformers, with the gradients of their inputs."""

import functools

import numpy as np

PACKAGES = ("torch==2.13.0", "transformers==5.24.0")
ROPES = {
    "default": {"rope_type": "default"},
    "linear": {"rope_type": "linear", "factor": 4.0},
    "llama3": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
    "yarn_short": {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024, "beta_fast": 16, "beta_slow": 2,
        "attention_factor": 1.5,
    },
}  # fmt: skip


def values():
    import torch
    import torch.nn.functional as F
    from torch import nn
    from transformers import LlamaConfig
    from transformers.activations import ACT2FN
    from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRotaryEmbedding, apply_rotary_pos_emb
    from transformers.models.t5.modeling_t5 import T5Attention

    rng = np.random.default_rng(11)
    stored = {}

    def normal(*shape, scale=1.0, mean=0.0):
        return torch.tensor((mean + scale * rng.normal(size=shape)).astype(np.float32))

    def store(name, function, *inputs, weights=()):
        """Store the inputs, the weights by name, the value and the gradients of sum(sin(value)) for the inputs."""
        inputs = [x.requires_grad_() for x in inputs]
        value = function(*inputs)
        gradients = torch.autograd.grad(torch.sin(value).sum(), inputs)
        stored.update({f"{name}/weights/{key}": x.detach().numpy() for key, x in weights})
        stored.update({f"{name}/inputs/{i}": x.detach().numpy() for i, x in enumerate(inputs)})
        stored.update({f"{name}/gradients/{i}": x.numpy() for i, x in enumerate(gradients)})
        stored[f"{name}/value"] = value.detach().numpy()

    def drawn(module):
        """Draw all weights of a module, those of norms and biases too."""
        with torch.no_grad():
            for x in module.parameters():
                x.copy_(normal(*x.shape, scale=0.5))
        return module.eval()

    for name in ("gelu", "gelu_new", "quick_gelu", "relu2", "silu", "mish", "relu"):
        store(f"activation/{name}", ACT2FN[name], torch.linspace(-6, 6, 25))
    for name in ("hardswish", "hardsigmoid", "hardtanh"):
        store(f"activation/{name}", getattr(F, name), torch.linspace(-5.9, 6.1, 25))  # between the kinks

    for name, build, mean in (
        ("layer_norm", nn.LayerNorm, 0.0), ("layer_norm_far", nn.LayerNorm, 100.0),
        ("layer_norm_unbiased", lambda width: nn.LayerNorm(width, bias=False), 0.0),
        ("rms_norm", lambda width: nn.RMSNorm(width, eps=1e-5), 0.0),
    ):  # fmt: skip
        layer = drawn(build(48))
        store(name, layer, normal(5, 48, mean=mean), weights=layer.named_parameters())

    causal = nn.Transformer.generate_square_subsequent_mask(5)
    padded = torch.arange(7)[None] >= torch.tensor([[7], [4]])  # of the memory: true is padding
    stored["padding"] = padded.numpy()
    layer = drawn(nn.MultiheadAttention(8, 2, batch_first=True))
    of = lambda x: layer(x, x, x, attn_mask=causal, is_causal=True)[0]
    store("attention", of, normal(2, 5, 8), weights=layer.named_parameters())
    layer = drawn(nn.MultiheadAttention(8, 2, kdim=6, vdim=6, batch_first=True))
    of = lambda x, memory: layer(x, memory, memory, key_padding_mask=padded)[0]
    store("cross_attention", of, normal(2, 5, 8), normal(2, 7, 6), weights=layer.named_parameters())

    of = lambda q, k, v, bias: F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=0.3, enable_gqa=True)
    store("grouped", of, normal(2, 6, 5, 4), normal(2, 2, 7, 4), normal(2, 2, 7, 4), normal(1, 6, 5, 7))

    for before in (True, False):
        name = "pre" if before else "post"
        options = dict(nhead=2, dim_feedforward=12, batch_first=True, norm_first=before, dropout=0.0)
        layer = drawn(nn.TransformerEncoderLayer(8, activation="gelu", **options))
        layer.train()  # the fast path of evaluation has no gradient
        of = lambda x, layer=layer: layer(x, src_key_padding_mask=padded)
        store(f"encoder_{name}", of, normal(2, 7, 8), weights=layer.named_parameters())
        layer = drawn(nn.TransformerDecoderLayer(8, **options))
        options = dict(tgt_mask=causal, memory_key_padding_mask=padded, tgt_is_causal=True)
        of = functools.partial(layer, **options)
        store(f"decoder_{name}", of, normal(2, 5, 8), normal(2, 7, 8), weights=layer.named_parameters())

    layer = drawn(LlamaMLP(LlamaConfig(hidden_size=8, num_attention_heads=2, intermediate_size=12)))
    store("gated", layer, normal(2, 3, 8), weights=layer.named_parameters())

    positions = torch.tensor([[0, 1, 2, 3, 50, 60], [9, 0, 127, 64, 5, 5]])
    stored["rotary/positions"] = positions.numpy()
    for name, rope in ROPES.items():
        config = LlamaConfig(
            hidden_size=64, num_attention_heads=2, max_position_embeddings=256,
            rope_parameters={"rope_theta": 500.0, **rope},
        )  # fmt: skip
        cos, sin = LlamaRotaryEmbedding(config)(torch.zeros(1), positions)
        store(f"rotary/{name}", lambda q: apply_rotary_pos_emb(q, q, cos, sin)[0], normal(2, 2, 6, 32))  # noqa: B023

    distances = torch.arange(-300, 301)
    stored["buckets/distances"] = distances.numpy()
    for both in (True, False):
        for number, most in ((32, 128), (8, 20)):
            stored[f"buckets/{both}/{number}/{most}"] = T5Attention._relative_position_bucket(
                distances, bidirectional=both, num_buckets=number, max_distance=most
            ).numpy()
    return stored
