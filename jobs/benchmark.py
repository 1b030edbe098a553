"""Measurements by hand: `python jobs/benchmark.py overhead`. The last line of the output is one JSON object."""

from prunedlora.benchmarks.command import app

if __name__ == "__main__":  # its bare processes import this file
    app()
