"""Recurrent layers of PyTorch, stacked and bidirectional, on rows of several lengths, with their gradients."""

import numpy as np

PACKAGES = ("torch==2.13.0",)

CASES = {
    "rnn_tanh": dict(kind="RNN", nonlinearity="tanh", bidirectional=True),
    "rnn_relu": dict(kind="RNN", nonlinearity="relu", num_layers=1),
    "lstm": dict(kind="LSTM"),
    "lstm_both": dict(kind="LSTM", bidirectional=True),
    "lstm_projected": dict(kind="LSTM", bidirectional=True, proj_size=2),
    "gru": dict(kind="GRU"),
    "gru_both": dict(kind="GRU", bidirectional=True),
}


def values():
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    torch.manual_seed(11)
    x = torch.randn(3, 5, 3)
    lengths = torch.tensor([3, 5, 1])
    stored = {"x": x.numpy(), "lengths": lengths.numpy()}
    for name, options in CASES.items():
        options = {"num_layers": 2, **options}
        layer = getattr(torch.nn, options.pop("kind"))(3, 4, batch_first=True, **options)
        for parameter in layer.parameters():
            torch.nn.init.normal_(parameter, std=0.7)
        rows = options["num_layers"] * (2 if options.get("bidirectional") else 1)
        h = torch.randn(rows, 3, options.get("proj_size", 4))
        start = (h, torch.randn(rows, 3, 4)) if isinstance(layer, torch.nn.LSTM) else h
        inputs = x.clone().requires_grad_()
        packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        outputs, final = layer(packed, start)
        outputs, _ = pad_packed_sequence(outputs, batch_first=True)
        weights = torch.randn_like(outputs)
        (outputs * weights).sum().backward()
        as_tuple = lambda state: state if isinstance(state, tuple) else (state,)
        found = {"start": as_tuple(start), "final": as_tuple(final)}
        stored |= {f"{name}/{key}/{i}": s.detach().numpy() for key, state in found.items() for i, s in enumerate(state)}
        stored |= {f"{name}/outputs": outputs.detach().numpy(), f"{name}/weights": weights.numpy()}
        stored[f"{name}/gradient"] = inputs.grad.numpy()
        for key, parameter in layer.named_parameters():
            stored[f"{name}/params/{key}"] = parameter.detach().numpy()
            stored[f"{name}/gradients/{key}"] = parameter.grad.numpy()
    return {key: np.asarray(value) for key, value in stored.items()}
