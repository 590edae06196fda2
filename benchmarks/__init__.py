"""Benchmarks: each script prints its tables with the machine that it ran on. See docs/benchmarks.md."""
