"""Faults on purpose: what is lost, and what is silently wrong. `python -m benchmarks.faults`."""
