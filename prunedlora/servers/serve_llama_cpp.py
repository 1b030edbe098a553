"""llama.cpp's own server, and Ollama: both take the base model as a GGUF file, and the adapter as another.

- https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md: `--lora`, `/lora-adapters`, and `lora` in a
  request. Texts get the beginning-of-text token that the GGUF file says; of a conversation the same, which is taken off
  first where the template has written it (common/chat.cpp).
- Converters: convert_hf_to_gguf.py and convert_lora_to_gguf.py, in llama.cpp's own folder.
- https://docs.ollama.com/modelfile (ADAPTER); https://docs.ollama.com/api (raw: the prompt as it is).
"""

import shlex
from typing import Any

from prunedlora.servers.adapter_shape import Kind
from prunedlora.servers.example_request import Endpoint, ExampleRequest, curl
from prunedlora.servers.handed import HERE, Handed, command, flag
from prunedlora.servers.serving_commands import Serving

BASE_FILE = "base.gguf"
ADAPTER_FILE = "adapter.gguf"
MERGED_FILE = "model.gguf"
OUT_TYPES = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
NO_BEGINNING = "--override-kv tokenizer.ggml.add_bos_token=bool:false"
OWN_TEMPLATES = "Ollama writes conversations out by templates of its own kind; whether one gives the same is not known."


def llama_server(handed: Handed, request: ExampleRequest) -> Serving:
    """`llama-server`; the request switches the adapter on for itself."""
    prepare, base, adapter = _files(handed)
    url = "http://localhost:8080"
    is_chat = request.endpoint == Endpoint.CHAT
    start = command(
        "llama-server -m",
        base,
        flag("--lora", adapter),
        "--jinja" if is_chat else None,
        flag("--chat-template-file", handed.template and handed.file(handed.template)),
        NO_BEGINNING if is_chat and handed.starts_bare else None,
        "--port 8080",
    )
    body = request.asked | request.limits | {"repeat_penalty": 1} | request.template_options
    if adapter is None:
        return Serving("llama.cpp", start, prepare, request=curl(f"{url}{request.endpoint}", body))
    on = [{"id": 0, "scale": 1.0}]
    return Serving(
        "llama.cpp",
        start,
        prepare,
        load=(command(start, "--lora-init-without-apply"), curl(f"{url}/lora-adapters", on)),
        request=curl(f"{url}{request.endpoint}", body | {"lora": on}),
    )


def ollama(handed: Handed, request: ExampleRequest) -> Serving:
    """`ollama create` from a Modelfile; bare prompts are sent raw."""
    prepare, base, adapter = _files(handed)
    lines = {"FROM": base} | ({} if adapter is None else {"ADAPTER": shlex.quote(adapter)})
    format_ = "".join(f"{name} %s\\n" for name in lines)
    prepare = (*prepare, f"printf '{format_}' {' '.join(map(_from_here, lines.values()))} > Modelfile")
    start = f"ollama create {shlex.quote(handed.name)} -f Modelfile"
    if request.endpoint == Endpoint.CHAT:
        return Serving("Ollama", start, prepare, note=OWN_TEMPLATES)
    options: dict[str, Any] = {"temperature": 0, "repeat_penalty": 1, "num_predict": request.max_tokens}
    options |= {"stop": list(request.stop)} if request.stop else {}
    body = {"model": handed.name, "prompt": request.text, "raw": True, "stream": False, "options": options}
    return Serving("Ollama", start, prepare, request=curl("http://localhost:11434/api/generate", body))


def _files(handed: Handed) -> tuple[tuple[str, ...], str, str | None]:
    """(commands that make the GGUF files, the base's or the merged model's, the adapter's); the first as a word of the
    shell."""
    base = handed.base
    out = flag("--outtype", OUT_TYPES.get(base.dtype or ""))
    if handed.shape.kind == Kind.MERGED:
        made = command("python convert_hf_to_gguf.py", shlex.quote(handed.folder), f"--outfile {MERGED_FILE}", out)
        return (*handed.download, made), MERGED_FILE, None
    if base.gguf_file is not None:
        word, prepare = _gguf_base(handed)
        folder = HERE if base.is_local else "base"
    else:
        fetch = command("hf download", base.word, flag("--revision", base.revision), "--local-dir base")
        folder = base.word if base.is_local else "base"
        made = command("python convert_hf_to_gguf.py", folder, f"--outfile {BASE_FILE}", out)
        word, prepare = BASE_FILE, (*(() if base.is_local else (fetch,)), made)
    if handed.shape.kind == Kind.GGUF:
        return (*handed.download, *prepare), word, handed.file(ADAPTER_FILE)
    converted = command(
        "python convert_lora_to_gguf.py",
        shlex.quote(handed.folder),
        f"--base {folder}" if base.gguf_file is None else None,
        f"--outfile {ADAPTER_FILE} --outtype f32",
    )
    return (*handed.download, *prepare, converted), word, ADAPTER_FILE


def _gguf_base(handed: Handed) -> tuple[str, tuple[str, ...]]:
    base = handed.base
    file = shlex.quote(base.gguf_file or "")
    if base.is_local:
        return f"{base.word}/{file}", ()
    fetch = command("hf download", base.word, file, flag("--revision", base.revision), "--local-dir base")
    return f"base/{file}", (fetch,)


def _from_here(word: str) -> str:
    """A path as a Modelfile takes one beside itself: a word of the shell, quoted where it has to be. What begins with a
    quote is absolute, or an expression that is."""
    return word if word[0] in "/\"'$" else f"./{word}"
