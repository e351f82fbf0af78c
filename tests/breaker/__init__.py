"""Fault injection: kills, power cuts, bit flips, full disks, readers beside a writer, hostile names and paths.

A kind of fault is a module with `attempt(bench, rng)`, see `bench.py`; `KINDS` in `runner.py` lists the kinds. Tests
make a few attempts with fixed seeds. `make breaker MINUTES=60` makes as many as fit, with new seeds, and writes the
figures to tests/RELIABILITY.md. A failure prints the command that repeats it:

    python -m tests.breaker bit_flips --seed 17 --attempts 1

To add a kind, copy `readers.py`.
"""
