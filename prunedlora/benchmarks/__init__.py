"""Measurements that people run by hand (`jobs/benchmark.py`, `python -m prunedlora.benchmarks`); each gives one JSON
object."""
