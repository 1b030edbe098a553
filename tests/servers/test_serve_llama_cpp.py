"""The commands for llama.cpp and Ollama, run where they can be."""

import shlex
import subprocess
from pathlib import Path

import pytest

from prunedlora.servers.adapter_shape import AdapterShape, Base, Kind
from prunedlora.servers.example_request import Endpoint, ExampleRequest
from prunedlora.servers.handed import BaseModel, Handed
from prunedlora.servers.known import SERVERS
from prunedlora.servers.serve_llama_cpp import llama_server, ollama
from prunedlora.servers.serve_python import sglang, vllm
from prunedlora.servers.treatment import Refused

RANKS = {"model.layers.0.self_attn.q_proj": 4}
ASKED = ExampleRequest(Endpoint.COMPLETIONS, "1 + 1 =")
EXPRESSION = '"$(printf %s "$PWD")"'
"""A word that the shell makes a path of, as for a base model in a package."""


def handed(kind: Kind, word: str, base: Base = Base.PLAIN) -> Handed:
    shape = AdapterShape(kind, RANKS, None, model_type="llama", base=base)
    file = "b.gguf" if base == Base.GGUF else None
    return Handed(shape, "mine", BaseModel("m", word, is_local=True, dtype="float32", gguf_file=file))


@pytest.mark.parametrize(("word", "found"), [(EXPRESSION, "{here}/b.gguf"), ("'/my path'", "/my path/b.gguf")])
def test_a_modelfile_names_the_files_that_the_shell_finds(word: str, found: str, tmp_path: Path) -> None:
    serving = ollama(handed(Kind.GGUF, word, Base.GGUF), ASKED)
    (line,) = (each for each in serving.prepare if "Modelfile" in each)
    subprocess.run(["bash", "-c", line], cwd=tmp_path, check=True)
    written = (tmp_path / "Modelfile").read_text().splitlines()
    assert written == [f"FROM {found.format(here=tmp_path)}", "ADAPTER ./adapter.gguf"]


def test_a_base_that_is_converted_lies_beside_the_modelfile(tmp_path: Path) -> None:
    (line,) = (each for each in ollama(handed(Kind.GGUF, "/m"), ASKED).prepare if "Modelfile" in each)
    subprocess.run(["bash", "-c", line], cwd=tmp_path, check=True)
    assert (tmp_path / "Modelfile").read_text() == "FROM ./base.gguf\nADAPTER ./adapter.gguf\n"


@pytest.mark.parametrize("kind", [Kind.TRAINED, Kind.UNIFORM])
def test_a_folder_for_a_gguf_base_cannot_be_converted(kind: Kind) -> None:
    treatment = SERVERS["llama.cpp"].treat(handed(kind, "/m", Base.GGUF).shape)
    assert treatment == Refused("its converter needs the base model's own config.json, which a GGUF base has not")


def test_a_merged_model_is_served_in_the_precision_that_it_was_measured_in() -> None:
    """Left alone, servers take half precision for float32."""
    whole = handed(Kind.MERGED, "/m")
    for program in (vllm, sglang):
        words = shlex.split(program(whole, ASKED).start)
        assert words[words.index("--dtype") + 1] == "float32"
    (made,) = llama_server(whole, ASKED).prepare
    assert made.endswith("--outtype f32")
