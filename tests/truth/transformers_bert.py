"""BERT, RoBERTa, DistilBERT and ALBERT of transformers: names on disk, logits, losses and gradients.

The weights are random, and the second row of tokens is padded. The gradient of the loss is that of the position table.
`counts` are the parameters of the base sizes, by shapes alone.
"""

import numpy as np

from tests.truth._checkpoint import as_text, drawn, import_torchvision, reloaded, saved

PACKAGES = ("torch==2.13.0", "torchvision==0.28.0", "transformers==5.24.0", "safetensors==0.8.0")
SEED = 11


def values():
    import torch

    _library = import_torchvision()
    import transformers as t

    rng = np.random.RandomState(2)
    tokens, types = rng.randint(3, 31, (2, 9)), rng.randint(0, 2, (2, 9))
    mask, chosen, classes = np.ones((2, 9), np.int64), rng.rand(2, 9) < 0.5, np.array([1, 0])
    mask[1, 6:] = 0
    labels = np.where(chosen & (mask > 0), rng.randint(3, 31, (2, 9)), -100)
    sizes = {"vocab_size": 31, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
             "intermediate_size": 40}  # fmt: skip
    bert = t.BertConfig(**sizes, max_position_embeddings=12)
    roberta = t.RobertaConfig(**sizes, max_position_embeddings=12, type_vocab_size=1, layer_norm_eps=1e-5,
                              bos_token_id=0, eos_token_id=2)  # fmt: skip
    albert = t.AlbertConfig(**{**sizes, "num_hidden_layers": 3}, embedding_size=6, max_position_embeddings=12)
    distilbert = t.DistilBertConfig(vocab_size=31, dim=16, n_layers=2, n_heads=4, hidden_dim=40,
                                    max_position_embeddings=12)  # fmt: skip
    cases = {
        "bert": t.BertModel(bert),
        "bert_both": t.BertForPreTraining(bert),
        "bert_classes": t.BertForSequenceClassification(bert),
        "roberta_masked": t.RobertaForMaskedLM(roberta),
        "roberta_classes": t.RobertaForSequenceClassification(roberta),
        "distilbert_masked": t.DistilBertForMaskedLM(distilbert),
        "distilbert_classes": t.DistilBertForSequenceClassification(distilbert),
        "albert_masked": t.AlbertForMaskedLM(albert),
        "albert_both": t.AlbertForPreTraining(albert),
        "albert_classes": t.AlbertForSequenceClassification(albert),
    }
    stored = {"tokens": tokens, "types": types, "mask": mask, "labels": labels, "classes": classes}
    for name, model in cases.items():
        padding = model.config.pad_token_id
        shapes, written = saved(model)
        model = reloaded(model, drawn(shapes, seed=SEED))
        inputs = {"input_ids": torch.tensor(np.where(mask > 0, tokens, padding)), "attention_mask": torch.tensor(mask)}
        if not name.startswith(("roberta", "distilbert")):
            inputs["token_type_ids"] = torch.tensor(types)
        if name.endswith("classes"):
            inputs["labels"] = torch.tensor(classes)
        elif name.endswith(("masked", "both")):
            inputs["labels"] = torch.tensor(labels)
        if name.endswith("both"):
            inputs["next_sentence_label" if name == "bert_both" else "sentence_order_label"] = torch.tensor(classes)
        out = model(**inputs)
        outputs = {
            key: x for key, x in out.items() if key in ("logits", "prediction_logits", "last_hidden_state",
            "pooler_output", "seq_relationship_logits", "sop_logits")
        }  # fmt: skip
        stored |= {f"{name}/{key}": x.detach().numpy() for key, x in outputs.items()}
        loss = out.loss if "loss" in out else out.last_hidden_state[:, 0].square().sum()
        loss.backward()
        table = model.get_submodule(f"{model.base_model_prefix}.embeddings" if "_" in name else "embeddings")
        stored |= {
            f"{name}/shapes": as_text(shapes),
            f"{name}/config": as_text(written),
            f"{name}/seed": SEED,
            f"{name}/loss": loss.item(),
            f"{name}/gradient": table.position_embeddings.weight.grad.numpy(),
        }
    with torch.device("meta"):
        full = {
            "bert": t.BertModel(t.BertConfig()),
            "roberta": t.RobertaModel(t.RobertaConfig(max_position_embeddings=514, type_vocab_size=1)),
            "distilbert": t.DistilBertModel(t.DistilBertConfig()),
            "albert": t.AlbertModel(t.AlbertConfig(hidden_size=768, num_attention_heads=12, intermediate_size=3072)),
        }
    stored |= {f"count/{name}": sum(x.numel() for x in model.parameters()) for name, model in full.items()}
    return stored
