"""Adversarial attacks on inputs, and evaluations of robustness against them.

An attack is a pure function that maximises an objective of the inputs within a ball of a Norm. Adversarial training
(`research.objectives.adversarial`) and evaluations (`measure_robust`) share the same attacks.

    attack   ascend, fgsm and pgd with restarts; measure_robust
    norms    linf, l2, l1: projection, steepest step and sampling

To add an attack, copy `fgsm` in `attack.py`.
"""
