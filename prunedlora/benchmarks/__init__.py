"""Measurements that people run by hand (`jobs/benchmark.py`); each gives one JSON object."""
