"""Speed, side by side: contenders that do the same work take turns on one machine.

    python -m tests.benchmarks                          all of it (hours)
    python -m tests.benchmarks mlp gpt --rounds 10      some of it
    python -m tests.benchmarks vit@batch=16             another size of it
    python -m tests.benchmarks --quick                  tiny sizes: does it run? (CI)

Every contender is a process of its own. All are set up and compiled first; then they take turns in random order while
the others sleep on a pipe, so a drift of the machine meets all of them. A figure is a ratio of turns of one round. The
contenders:

    ours            this codebase through its public path: `experiment.build` and the real `loop.run`
    floor           the leanest hand-written JAX for the same maths; who finds a faster one replaces it
    linen, nnx      the idiom of Flax's examples
    keras           Keras 3 on JAX, `train_on_batch`
    torch, torch-best, torch-compile
                    PyTorch: eager; with its fused optimizer and channels last; and compiled besides

Keras and PyTorch are installed for this alone: `pip install -e '.[bench]'`. Nothing here asserts a time.
"""
