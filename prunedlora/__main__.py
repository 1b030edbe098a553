"""`python -m prunedlora` is the `prunedlora` command."""

from prunedlora.cli import app

if __name__ == "__main__":
    app(prog_name="prunedlora")
