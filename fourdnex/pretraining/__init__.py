"""Pretraining of the tiny base and of its depth network on procedural worlds."""
