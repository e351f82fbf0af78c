"""Decoders of transformers, and T5: logits, loss, a gradient, greedy tokens of padded batches, for random weights."""

import numpy as np

from tests.truth._checkpoint import as_text, drawn, reloaded, saved

PACKAGES = ("torch==2.13.0", "transformers==5.24.0", "safetensors==0.8.0")
SEED = 5
LENGTHS, PROMPTS, NEW = (11, 7), (5, 3), 6
SIZES = dict(
    vocab_size=37, hidden_size=24, intermediate_size=20, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=2,
)  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
T5 = dict(
    vocab_size=37, d_model=24, d_kv=5, d_ff=20, num_layers=2, num_heads=4, relative_attention_num_buckets=8,
    relative_attention_max_distance=10,
)  # fmt: skip


def values():
    import torch
    import transformers as hf

    cases = {
        "gpt2": (hf.GPT2LMHeadModel, hf.GPT2Config(vocab_size=37, n_positions=16, n_embd=24, n_layer=2, n_head=4)),
        "llama": (hf.LlamaForCausalLM, hf.LlamaConfig(**SIZES, rms_norm_eps=1e-5)),
        "llama3": (hf.LlamaForCausalLM, hf.LlamaConfig(**SIZES, rope_parameters=LLAMA3, tie_word_embeddings=True)),
        "qwen2": (hf.Qwen2ForCausalLM, hf.Qwen2Config(**SIZES, tie_word_embeddings=True)),
        "qwen3": (hf.Qwen3ForCausalLM, hf.Qwen3Config(**SIZES, head_dim=10)),
        "mistral": (hf.MistralForCausalLM, hf.MistralConfig(**SIZES, sliding_window=4)),
        "t5": (hf.T5ForConditionalGeneration, hf.T5Config(**T5, decoder_start_token_id=0)),
        "t5_gated": (
            hf.T5ForConditionalGeneration,
            hf.T5Config(
                **T5, num_decoder_layers=1, decoder_start_token_id=0, feed_forward_proj="gated-gelu",
                tie_word_embeddings=False,
            ),
        ),
    }  # fmt: skip
    stored = {"seed": SEED}
    for name, (kind, config) in cases.items():
        shapes, written = saved(kind(config))
        if name == "t5_gated":  # the files of T5 1.1 have an output layer of its own, which a new model does not
            shapes["lm_head.weight"], written["tie_word_embeddings"] = shapes["shared.weight"], False
        model = reloaded(kind(config), drawn(shapes, seed=SEED))
        case = {"shapes": as_text(shapes), "config": as_text(written)}
        case |= (_seq2seq if name.startswith("t5") else _causal)(torch, model)
        stored |= {f"{name}/{key}": value for key, value in case.items()}
    return stored


def _run(model, **batch):
    out = model(**batch)
    out.loss.backward()
    gradient = model.get_input_embeddings().weight.grad
    return {"logits": out.logits.detach().numpy(), "loss": out.loss.item(), "gradient": gradient.numpy()}


def _greedy(model, tokens, mask):
    options = dict(max_new_tokens=NEW, do_sample=False, eos_token_id=None, pad_token_id=0)
    return model.generate(tokens, attention_mask=mask, **options).numpy()


def _causal(torch, model):
    rng = np.random.RandomState(0)
    tokens = rng.randint(3, 37, (2, max(LENGTHS)))
    mask = np.arange(max(LENGTHS)) < np.array(LENGTHS)[:, None]
    labels = torch.tensor(np.where(mask, tokens, -100))
    found = _run(model, input_ids=torch.tensor(tokens), attention_mask=torch.tensor(mask.astype(int)), labels=labels)
    # Prompts are padded on the left; the stored rows are padded on the right.
    longest = max(PROMPTS)
    prompts = np.stack([np.pad(row[:size], (longest - size, 0)) for row, size in zip(tokens, PROMPTS, strict=True)])
    seen = np.arange(longest) >= longest - np.array(PROMPTS)[:, None]
    rows = _greedy(model, torch.tensor(prompts), torch.tensor(seen.astype(int)))
    greedy = np.stack([np.roll(row, size - longest) for row, size in zip(rows, PROMPTS, strict=True)])
    return {"tokens": tokens, "lengths": np.array(LENGTHS), "prompts": np.array(PROMPTS), "greedy": greedy, **found}


def _seq2seq(torch, model):
    rng = np.random.RandomState(0)
    source, labels = rng.randint(3, 37, (2, max(LENGTHS))), rng.randint(3, 37, (2, 8))
    mask = np.arange(max(LENGTHS)) < np.array(LENGTHS)[:, None]
    labels[1, 5:] = -100
    batch = dict(input_ids=torch.tensor(source), attention_mask=torch.tensor(mask.astype(int)))
    found = _run(model, **batch, labels=torch.tensor(labels))
    greedy = _greedy(model, batch["input_ids"], batch["attention_mask"])
    return {"source": source, "lengths": np.array(LENGTHS), "labels": labels, "greedy": greedy, **found}
