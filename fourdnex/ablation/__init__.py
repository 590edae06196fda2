"""Ablations: variants of the settings, trained and measured at equal steps and data, over seeds."""
