"""Inputs that a network gets wrong, and how many it withstands.

An attack is a pure function of a loss of the inputs, within a ball of a Norm; adversarial training
(`research.objectives.adversarial`) and evaluations (`measure_robust`) share it.

    attack   fgsm and pgd, with restarts; measure_robust
    norms    linf, l2, l1: projection and steepest step

To add an attack, copy `attack.py`.
"""
