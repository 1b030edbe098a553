"""Measurements by hand: `python jobs/benchmark.py overhead`. The last line of the output is one JSON object."""

from prunedlora.benchmarks.command import app

app()
