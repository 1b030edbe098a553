"""The benchmark of what other servers make of our adapters."""

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from prunedlora.benchmarks.product.llama_cpp_command import PROMPTS
from prunedlora.errors import clear_errors

app = typer.Typer()

RESULTS = Path("jobs/results/servers.json")


@app.command(name="served-logits")
@clear_errors()
def served_logits(
    server: Annotated[Literal["vllm", "mlx"], typer.Option()],
    python: Annotated[
        Path, typer.Option(exists=True, help="Interpreter of the environment that the server is installed in.")
    ],
    model: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder of a language model.")],
    adapter: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="An exported adapter of it; else one is made up."),
    ] = None,
    results: Annotated[
        Path | None, typer.Option(help=f"Put the figures, by server, into this document ({RESULTS}).")
    ] = None,
) -> None:
    """A server's answers with an adapter of unequal ranks in each of its forms, in float32, against PEFT's."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from prunedlora.benchmarks.product import served_logits as measurement

    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(model)
    prompts = {name: tokenizer(text)["input_ids"] for name, text in PROMPTS.items()}
    with tempfile.TemporaryDirectory() as scratch:
        figures = measurement.served_logits(loaded, server, python, prompts, Path(scratch), adapter)
    figures = {"model": model.name, "prompts": prompts} | figures
    if results is not None:
        found: dict[str, Any] = json.loads(results.read_text("utf-8")) if results.exists() else {}
        results.write_text(json.dumps(found | {server: figures}, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    typer.echo(json.dumps(figures))
