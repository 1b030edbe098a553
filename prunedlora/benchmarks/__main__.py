"""`python -m prunedlora.benchmarks`: the commands of jobs/benchmark.py, where there is no checkout."""

from prunedlora.benchmarks.command import app

if __name__ == "__main__":
    app()
