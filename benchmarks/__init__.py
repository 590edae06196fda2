"""Measurements: each module prints one table with the machine it ran on. See docs/benchmarks.md."""
