"""Recurrent encoder-decoders, made of PyTorch's GRU and LSTM cells; logits and gradients."""

import numpy as np

PACKAGES = ("torch==2.13.0",)
SOURCE = np.array([[3, 1, 4, 1], [5, 2, 0, 0]])  # 0 is padding
TOKENS = np.array([[1, 2, 3], [1, 4, 2]])


def values():
    import torch

    torch.manual_seed(5)
    stored = {"source": SOURCE, "tokens": TOKENS}
    for name, build in (("additive", additive), ("multiplicative", multiplicative), ("plain", plain)):
        params = {}

        def get(path, *shape, params=params):
            """A random array, in the layout [inputs, outputs]."""
            if path not in params:
                params[path] = (0.6 * torch.randn(*shape)).requires_grad_()
            return params[path]

        logits = build(torch, get)
        weights = torch.randn_like(logits)
        (logits * weights).sum().backward()
        stored |= {f"{name}/logits": logits.detach().numpy(), f"{name}/weights": weights.numpy()}
        for path, array in params.items():
            stored[f"{name}/params/{path}"] = array.detach().numpy()
            stored[f"{name}/gradients/{path}"] = array.grad.numpy()
    return stored


def cell(torch, kind, get, path, features, width):
    """A cell of PyTorch, or a function of one, whose weights are the transposes of ours."""
    gates = {"GRU": 3, "LSTM": 4}[kind]
    w, b = get(f"{path}/input/kernel", features, gates * width), get(f"{path}/input/bias", gates * width)
    u = get(f"{path}/recurrent/kernel", width, gates * width)
    d = get(f"{path}/recurrent/bias", gates * width) if kind == "GRU" else torch.zeros(gates * width)
    module = getattr(torch.nn, f"{kind}Cell")(features, width)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    swapped = dict(zip(names, (w.T, u.T, b, d), strict=True))
    return lambda x, state: torch.func.functional_call(module, swapped, (x, state))


def attend(torch, scores, values, mask):
    return (torch.softmax(scores.masked_fill(~mask, float("-inf")), -1)[..., None] * values).sum(1)


def additive(torch, get, embedding=3, width=4, maxout=2):
    source, tokens = torch.tensor(SOURCE), torch.tensor(TOKENS)
    mask = source != 0
    x = get("source_embed/embedding", 6, embedding)[source]
    outputs = []
    for path, reverse in (("encoder/layers/0", False), ("encoder/backward/0", True)):
        run = cell(torch, "GRU", get, path, embedding, width)
        rows, last = [], []
        for row in range(2):
            steps = [x[row, i] for i in range(int(mask[row].sum()))]
            h, found = torch.zeros(width), []
            for step in steps[::-1] if reverse else steps:
                h = run(step, h)
                found.append(h)
            found = found[::-1] if reverse else found
            rows.append(torch.stack(found + [torch.zeros(width)] * (source.shape[1] - len(found))))
            last.append(h)
        outputs.append(torch.stack(rows))
    values = torch.cat(outputs, -1)
    s = torch.tanh(torch.stack(last) @ get("start/kernel", width, width) + get("start/bias", width))
    y = get("embed/embedding", 5, embedding)[tokens]
    run = cell(torch, "GRU", get, "cell", embedding + 2 * width, width)
    query, key = get("attention/query/kernel", width, width), get("attention/key/kernel", 2 * width, width)
    score, logits = get("attention/score/kernel", width, 1), []
    for i in range(tokens.shape[1]):
        scores = (torch.tanh((s @ query)[:, None] + values @ key) @ score)[..., 0]
        context = attend(torch, scores, values, mask)
        s = run(torch.cat([y[:, i], context], -1), s)
        hidden = torch.cat([s, y[:, i], context], -1) @ get("hidden/kernel", 3 * width + embedding, 2 * maxout)
        hidden = (hidden + get("hidden/bias", 2 * maxout)).reshape(2, maxout, 2).amax(-1)
        logits.append(hidden @ get("head/kernel", maxout, 5) + get("head/bias", 5))
    return torch.stack(logits, 1)


def multiplicative(torch, get, width=4, depth=2):
    source, tokens = torch.tensor(SOURCE), torch.tensor(TOKENS)
    mask = source != 0
    x = get("source_embed/embedding", 6, width)[source]
    states = []
    for layer in range(depth):
        run = cell(torch, "LSTM", get, f"encoder/layers/{layer}", width, width)
        rows, last = [], []
        for row in range(2):
            state, found = (torch.zeros(width), torch.zeros(width)), []
            for i in range(int(mask[row].sum())):
                state = run(x[row, i], state)
                found.append(state[0])
            rows.append(torch.stack(found + [torch.zeros(width)] * (source.shape[1] - len(found))))
            last.append(state)
        x = torch.stack(rows)
        states.append(tuple(torch.stack(part) for part in zip(*last, strict=True)))
    cells = [
        cell(torch, "LSTM", get, f"layers/{i}", width * (1 if i else 2), width) for i in range(depth)
    ]  # fmt: skip
    y, fed, logits = get("embed/embedding", 5, width)[tokens], torch.zeros(2, width), []
    for i in range(tokens.shape[1]):
        h = torch.cat([y[:, i], fed], -1)
        for layer in range(depth):
            states[layer] = cells[layer](h, states[layer])
            h = states[layer][0]
        scores = torch.einsum("bw,bkw->bk", h, x @ get("attention/key/kernel", width, width))
        fed = torch.tanh(torch.cat([attend(torch, scores, x, mask), h], -1) @ get("combine/kernel", 2 * width, width))
        logits.append(fed @ get("head/kernel", width, 5) + get("head/bias", 5))
    return torch.stack(logits, 1)


def plain(torch, get, width=4):
    x, states = get("source_embed/embedding", 6, width)[torch.tensor(SOURCE)], []
    run = cell(torch, "GRU", get, "encoder", width, width)
    for row, size in zip(x, (SOURCE != 0).sum(1), strict=True):
        h = torch.zeros(width)
        for step in row[:size]:
            h = run(step, h)
        states.append(h)
    run, h, logits = cell(torch, "GRU", get, "cell", width, width), torch.stack(states), []
    for y in get("embed/embedding", 5, width)[torch.tensor(TOKENS)].swapaxes(0, 1):
        h = run(y, h)
        logits.append(h @ get("head/kernel", width, 5) + get("head/bias", 5))
    return torch.stack(logits, 1)
