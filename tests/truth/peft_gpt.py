"""GPT-2 of transformers with the soft prompt, the prefix and the LoRA of peft: logits and gradients, random weights."""

import numpy as np

from tests.truth._checkpoint import as_text, drawn, reloaded, saved

PACKAGES = ("torch==2.13.0", "transformers==5.24.0", "safetensors==0.8.0", "peft==0.21.2")
SEED = 5
VIRTUAL = 3


def values():
    import torch
    from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=31, n_positions=12, n_embd=16, n_layer=2, n_head=4, attn_pdrop=0, embd_pdrop=0, resid_pdrop=0
    )
    shapes, _ = saved(GPT2LMHeadModel(config))
    tokens = np.random.RandomState(0).randint(0, 31, (2, 8))
    rows = torch.tensor(tokens)
    stored = {"shapes": as_text(shapes), "seed": SEED, "tokens": tokens}
    methods = {
        "prompt": PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=VIRTUAL),
        "prefix": PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=VIRTUAL),
        "lora": LoraConfig(r=2, lora_alpha=6, target_modules=["c_fc"], fan_in_fan_out=True, lora_dropout=0),
    }
    for name, method in methods.items():
        model = get_peft_model(reloaded(GPT2LMHeadModel(config), drawn(shapes, seed=SEED)), method).eval()
        random = np.random.RandomState(1)
        trained = {key: x for key, x in model.named_parameters() if x.requires_grad}
        for key, x in trained.items():
            x.data = torch.tensor(0.5 * random.standard_normal(tuple(x.shape)), dtype=torch.float32)
            stored[f"{name}/{key}"] = x.detach().numpy().copy()
        out = model(input_ids=rows, attention_mask=torch.ones_like(rows))
        logits = out.logits[:, -rows.shape[1] :]
        (logits**2).mean().backward()
        stored[f"{name}/logits"] = logits.detach().numpy()
        stored |= {f"{name}/gradient/{key}": x.grad.numpy() for key, x in trained.items()}
    return stored
