"""Weights from and to public checkpoints of transformers, timm and torchvision, without PyTorch.

    init_from=weights("organisation/model", gpt.transformers(**sizes))   the start of an experiment
    published=gpt.transformers(**sizes)                                  its end: `python -m research weights export`

A Layout has the table {our module: their module} and the config.json; the same one serves both directions. Models know
nothing of it. Reading runs no code, fetches nothing and maps one array at a time.

Contents: `load` (import), `export`, `layout` (tables); `folders`, `files`, `pickled`, `options` (files); and a file per
architecture with a function per library, which returns its Layout, and `arguments(config)`, which returns the
arguments of our model for a config.json: `gpt`, `llama`, `t5`, `bert`, `resnet`, `vit`. For a new architecture, copy
`gpt.py`, and `tests/truth/transformers_gpt.py` with its test. `g2p_en` has the weights of a package.
"""
