"""Pretraining: how the tiny base and its depth network are made from procedural worlds."""
