"""Ablations: variants of the training settings, trained and evaluated at equal steps and data, over several seeds."""
