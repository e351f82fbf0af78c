"""The logits processors of transformers, and the sequences that its GPT-2 generates greedily and by beam search."""

import numpy as np

PACKAGES = ("torch==2.13.0", "transformers==5.24.0")
PROMPTS = np.array([[3, 0, 0, 0], [5, 1, 4, 0], [2, 2, 9, 7]])
LENGTHS = np.array([1, 3, 4])
BEAMS = ((4, 1.0), (3, 0.0), (5, 2.0), (4, -0.5))
END = 11


def values():
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel
    from transformers.generation import logits_process as processors

    rng = np.random.default_rng(3)
    scores = (3 * rng.normal(size=(4, 12))).astype(np.float32)
    tokens = rng.integers(12, size=(4, 5))
    stored = {"scores": scores, "tokens": tokens}

    def process(name, processor):
        stored[name] = processor(torch.tensor(tokens), torch.tensor(scores)).numpy()

    process("temperature", processors.TemperatureLogitsWarper(0.7))
    process("top_k", processors.TopKLogitsWarper(3))
    for mass in (0.3, 0.9):
        process(f"top_p_{mass}", processors.TopPLogitsWarper(mass))
    process("min_p", processors.MinPLogitsWarper(0.1))
    process("repetition", processors.RepetitionPenaltyLogitsProcessor(1.7))

    config = GPT2Config(
        vocab_size=12, n_positions=24, n_embd=8, n_layer=2, n_head=2, bos_token_id=None, eos_token_id=None,
        attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0,
    )  # fmt: skip
    model = GPT2LMHeadModel(config).eval()
    weights = np.random.RandomState(0)
    arrays = {name: weights.normal(size=tuple(x.shape)) * (0.8 if x.ndim > 1 else 0.2)
              for name, x in model.state_dict().items() if name != "lm_head.weight"}  # fmt: skip
    for name in arrays:
        if ".ln_" in name and name.endswith("weight"):
            arrays[name] += 1
    stored |= {f"gpt2/{name}": x.astype(np.float32) for name, x in arrays.items()}
    model.load_state_dict({name: torch.tensor(x, dtype=torch.float32) for name, x in arrays.items()}, strict=False)

    def continued(row, length, **options):
        """Row by row: transformers would pad prompts on the left."""
        prompt = torch.tensor(row[None, :length])
        mask = torch.ones_like(prompt)
        return model.generate(
            prompt, attention_mask=mask, max_new_tokens=8, do_sample=False, pad_token_id=END, **options
        )  # fmt: skip

    def padded(found, length):
        new = found[:, length:].numpy()
        return np.pad(new, ((0, 0), (0, 8 - new.shape[1])), constant_values=END)

    rows = list(zip(PROMPTS, LENGTHS, strict=True))
    stored["greedy"] = np.concatenate([padded(continued(row, n), n) for row, n in rows])
    stored["greedy_repetition"] = np.concatenate(
        [padded(continued(row, n, repetition_penalty=1.5, eos_token_id=END), n) for row, n in rows]
    )
    for beams, penalty in BEAMS:
        options = dict(num_beams=beams, num_return_sequences=beams, length_penalty=penalty, eos_token_id=END)
        options |= dict(early_stopping="never", return_dict_in_generate=True, output_scores=True)
        found = [continued(row, n, **options) for row, n in rows]
        stored[f"beams_{beams}_{penalty}"] = np.stack(
            [padded(x.sequences, n) for x, n in zip(found, LENGTHS, strict=True)]
        )
        stored[f"scores_{beams}_{penalty}"] = np.stack([x.sequences_scores.numpy() for x in found])
    return stored
