"""Speed, side by side: contenders that do the same work take turns on one machine.

    python -m tests.benchmarks                          all of it (hours)
    python -m tests.benchmarks mlp gpt --rounds 10      some of it
    python -m tests.benchmarks vit@batch=16             another size of it
    python -m tests.benchmarks --quick                  tiny sizes: does it run? (CI)
    python -m tests.benchmarks.scale                    predictions for TPU slices that are not there: SCALE.md

Every contender is a process of its own. All are set up and compiled first; then they take turns in random order while
the others sleep on a pipe, so a drift of the machine meets all of them. A figure is a ratio of turns of one round; the
first step after a sleep is not timed. The contenders:

    ours            this codebase through its public path: `experiment.build` and the real `loop.run`
    ours-step       its compiled step alone, called in a plain loop; ours-many, 32 steps a dispatch
    floor           the leanest hand-written JAX for the same maths; who finds a faster one replaces it
    linen, nnx      the idiom of Flax's examples
    keras           Keras 3 on JAX, `train_on_batch`
    torch, torch-best, torch-compile
                    PyTorch: eager; with its fused optimizer and channels last; and compiled besides
    linen-kept, torch-best-kept
                    the same with the allocator of our command line, which keeps freed memory (`system.allocator`)

Ours and the floor have this allocator too; the other contenders are as their users start them.

A turn of training consists of three parts. Steal, other processes, CPU time per step and the spread of the parts decide
whether it was stable (`stability`). Contenders with fewer stable turns than `--rounds` take further ones, at most
`--again`; then their rows are marked.

Keras, PyTorch, transformers (for `generate`) and TensorFlow (for tf.data) are installed for this alone:
`pip install -e '.[bench]'`. Nothing here asserts a time.

What was tried on two CPU cores (EPYC with AVX2, jax 0.10.2) and left out, as time by that of what is there:

- ViT and GPT, whose steps are matrix products for 65 and 82 % of their time, at 100 of 134 GF/s: GELU recomputed .98;
  attention without the blocks that a causal mask hides .99 (halves), 1.00 (quarters), 1.01 (eighths); XLA's options for
  YNN, oneDNN and XNNPACK, no difference beyond noise; XLA without its fusion emitters 1.0 and 1.1; the residual stream
  as an array of its own in every block, 1.1 (GPT).
- Convolutions of 3 x 3: the forward pass as products of windows .9 to 3.0, of the windows of some images at a time 1.1
  to 1.3 at best, of shifted images .8 to 2.2; a strided one in phases 1.0 to 1.8, its derivative by the image .5 to
  1.1.
- LSTM: the gradient of the recurrent matrix as one product after the loop would save 3 %.

And on two cores with AVX-512: vectors of 512 bits in XLA's own loops (`--xla_cpu_prefer_vector_width`) MLP .96, ViT and
GPT 1.0; its other schedulers and presets 1.0 to 1.1; oneDNN, YNN and XNNPACK for an MLP's products 1.0 (they run at 190
to 320 GF/s, slowest for kernels' gradients over 128 examples, where large ones reach 400); a transposed copy of a
layer's input for its kernel's gradient, .9 to 1.1 of the product; Adam with its divisions by numbers turned into
products .65 to 1.0 of its own time, which is a seventh to a fifth of an MLP's step, but then it is not optax's; the
pieces of a convolution's windows two or four to a turn of their loop, .95 to 1.02 of a ResNet's step;
mimalloc 3 without purging, as few page faults as glibc with `system.allocator`, at 2.3 GB for a GPT's step (glibc: 2.1
to 2.8, and 1.5 without it); glibc without `arena_max=1`, up to 8,000 page faults a step; without its caches of threads,
no less memory.
"""
