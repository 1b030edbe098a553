"""A merged model whose embeddings were tied answers as the adapter did, also once it is saved and loaded."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from prunedlora.adapters.attach import AdapterSettings, attach
from prunedlora.adapters.export import export
from prunedlora.adapters.repack import merge
from tests.tiny import make_decoder


@pytest.mark.parametrize(
    ("targets", "heads"), [(["lm_head"], []), (["q_proj"], ["lm_head"]), (["q_proj"], ["embed_tokens"])]
)
def test_an_adapter_on_one_of_two_tied_embeddings(tmp_path: Path, targets: list[str], heads: list[str]) -> None:
    folder = make_decoder(tmp_path / "decoder")
    settings = AdapterSettings(4, 4, False, 0.0, targets, heads)
    model = attach(AutoModelForCausalLM.from_pretrained(folder), settings, "default", 0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    export(model, "default", tmp_path / "adapter", str(folder))
    ids = torch.arange(8)[None]
    expected = model.eval()(input_ids=ids).logits
    merged = merge(AutoModelForCausalLM.from_pretrained(folder), tmp_path / "adapter")
    merged.save_pretrained(tmp_path / "merged")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    torch.testing.assert_close(again(input_ids=ids).logits, expected, rtol=1e-4, atol=1e-4)
    assert not again.config.tie_word_embeddings
