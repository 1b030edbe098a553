"""The callback in a real `transformers.Trainer` and TRL's `SFTTrainer`: choices of our loop, a plain adapter after."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments
from trl import SFTConfig, SFTTrainer

from prunedlora import PrunedLoraCallback, PruningConfig
from prunedlora.adapters.layers import adapted_layers
from prunedlora.config.load import parse_sweep
from prunedlora.config.trial import trial_with
from prunedlora.integrations.transformers import CallbackError
from prunedlora.pruning.pruner import Event
from prunedlora.training.distributed import Workers
from prunedlora.training.loop import Verdict, train
from prunedlora.training.model import draw_new_parameters
from prunedlora.trial.assemble import build_method, build_trial, num_steps
from prunedlora.trial.assets import load_assets
from tests.tiny import minilm_folder, sweep_tree

CPU = torch.device("cpu")
README = (Path(__file__).parents[2] / "README.md").read_text()
SCHEDULE = {"name": "linear", "begin": 0.2, "end": 0.7, "every_steps": 2}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


class InOrder(Trainer):
    """Takes the examples as they come."""

    def _get_train_sampler(self, *_: Any) -> torch.utils.data.Sampler[int]:
        return torch.utils.data.SequentialSampler(self.train_dataset)


def arguments(folder: Path, **overrides: Any) -> TrainingArguments:
    fields: dict[str, Any] = {
        "output_dir": str(folder),
        "max_steps": 12,
        "per_device_train_batch_size": 8,
        "learning_rate": 5e-3,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "report_to": [],
        "save_strategy": "no",
        "use_cpu": True,
        "remove_unused_columns": False,
        "disable_tqdm": True,
        "optim": "adamw_torch",
    }
    return TrainingArguments(**(fields | overrides))


class Setting:
    """One configuration, for our loop and for a Trainer: same model, same start, same batches."""

    def __init__(self, folder: Path, **pruning: Any) -> None:
        base = parse_sweep(sweep_tree(folder, "unused"), "test").trial
        values = {f"pruning.{name}": value for name, value in pruning.items()}
        self.trial = trial_with(base, {"optimizer.decay": "constant", "optimizer.warmup": 0.0, **values})

    def start(self) -> tuple[Any, Any, Any]:
        assets = load_assets(self.trial, CPU)
        method = build_method(self.trial, num_steps(self.trial, len(assets.train)))
        model = method.attach(assets.base.model, "default")
        draw_new_parameters(model, assets.base, self.trial.seed)
        return assets, method, model

    def by_our_loop(self) -> tuple[list[Event], Any]:
        assets, method, model = self.start()
        live = build_trial(self.trial, assets, model, method, Workers(0, 1, CPU))
        events: list[Event] = []
        step = method.step

        def kept(*inputs: Any) -> Event | None:
            event: Event | None = step(*inputs)
            events.extend([event] if event else [])
            return event

        method.step = kept
        train(
            live,
            Workers(0, 1, CPU),
            milestones=frozenset(),
            checkpoint_every_steps=None,
            on_step=lambda _: Verdict.CONTINUE,
            on_milestone=lambda: Verdict.CONTINUE,
            save_checkpoint=lambda: None,
        )
        return events, model

    def trainer(self, output: Path, **overrides: Any) -> tuple[Trainer, PrunedLoraCallback]:
        assets, method, model = self.start()
        method.close()
        live = build_trial(self.trial, assets, model, method, Workers(0, 1, CPU))
        batches = [features for step in range(12) for features in next(live.order.micro_batches(step, 0, 1))]
        assert self.trial.pruning is not None
        callback = PrunedLoraCallback(self.trial.pruning)
        trainer = InOrder(
            model=model,
            args=arguments(output, **overrides),
            train_dataset=batches,
            data_collator=assets.task.collate,
            callbacks=[callback],
        )
        return trainer, callback


@pytest.mark.parametrize(
    "pruning",
    [
        {"allocation": "uniform"},
        {"allocation": "global", "min_rank": 0},
        {"curvature": "batch", "recovery_side": "A", "recovery_strength": 1.0},
        {"rate_growth": 0.5},
    ],
    ids=lambda pruning: "-".join(map(str, pruning.values())),
)
def test_the_callback_removes_what_our_loop_removes(pruning: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    setting = Setting(folder, **pruning)
    if pruning.get("curvature") == "batch":
        setting.trial = trial_with(setting.trial, {"optimizer.max_grad_norm": None})
    ours, model = setting.by_our_loop()
    trainer, callback = setting.trainer(tmp_path, max_grad_norm=setting.trial.optimizer.max_grad_norm or 0.0)
    trainer.train()
    assert len(ours) > 1
    assert [event.ranks for event in callback.events] == [event.ranks for event in ours]
    assert [event.removed for event in callback.events] == [event.removed for event in ours]
    batch = {"input_ids": torch.arange(1000, 1012)[None]}
    trained = trainer.model
    torch.testing.assert_close(trained.eval()(**batch).logits, model.eval()(**batch).logits, rtol=0, atol=1e-3)


def test_a_resumed_training_goes_on_as_if_it_had_not_stopped(folder: Path, tmp_path: Path) -> None:
    whole, _ = Setting(folder).trainer(tmp_path / "whole")
    whole.train()
    saved = {"save_strategy": "steps", "save_steps": 6}
    Setting(folder).trainer(tmp_path / "two", **saved)[0].train()
    resumed, callback = Setting(folder).trainer(tmp_path / "two", **saved)
    resumed.train(resume_from_checkpoint=str(tmp_path / "two" / "checkpoint-6"))
    assert callback.events
    assert min(event.step for event in callback.events) > 6
    left, right = (dict(trainer.model.named_parameters()) for trainer in (whole, resumed))
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
    (tmp_path / "two" / "checkpoint-6" / "pruner.safetensors").unlink()
    with pytest.raises(CallbackError, match=r"cannot resume: .*checkpoint-6 has no pruner\.safetensors"):
        Setting(folder).trainer(tmp_path / "two")[0].train(resume_from_checkpoint=str(tmp_path / "two/checkpoint-6"))


@pytest.fixture
def llama() -> Callable[[], LlamaForCausalLM]:
    def make() -> LlamaForCausalLM:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return LlamaForCausalLM(
                LlamaConfig(
                    vocab_size=30522,
                    hidden_size=16,
                    num_hidden_layers=2,
                    num_attention_heads=2,
                    intermediate_size=32,
                    pad_token_id=0,
                )
            )

    return make


def test_in_trl_by_the_readme_s_lines(llama: Callable[[], LlamaForCausalLM], tmp_path: Path) -> None:
    """Saved by the callback and by the trainer itself, loaded by PEFT alone: the logits of the trained model."""
    text = Dataset.from_dict({"text": [f"the house of river number {i} is made of stone" for i in range(64)]})
    trainer = SFTTrainer(
        model=llama(),
        args=SFTConfig(
            output_dir=str(tmp_path), max_steps=20, per_device_train_batch_size=4, learning_rate=1e-2, report_to=[],
            save_strategy="no", use_cpu=True, disable_tqdm=True, max_length=32, eos_token="[SEP]", bf16=False,
        ),
        train_dataset=text,
        processing_class=AutoTokenizer.from_pretrained(minilm_folder()),
        peft_config=LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"),
    )  # fmt: skip
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "Callback" in block]
    exec(code, {"trainer": trainer})
    trainer.save_model(str(tmp_path / "saved"))
    batch = {"input_ids": torch.arange(1000, 1012)[None]}
    expected = trainer.model.eval()(**batch).logits
    untrained = llama().eval()(**batch).logits
    assert (expected - untrained).abs().max() > 1e-3
    for name in ("pruned_adapter", "saved"):
        plain = PeftModel.from_pretrained(llama(), tmp_path / name).eval()
        torch.testing.assert_close(plain(**batch).logits, expected, rtol=0, atol=1e-5)
        assert {layer.rank for layer in adapted_layers(plain, "default")} == {2}


CONFIG = {"target_rank": 2, "schedule": SCHEDULE}


@pytest.mark.parametrize(
    ("lora", "arguments_", "pruning", "message"),
    [
        (None, {}, {}, "the model has no LoRA layers of an adapter 'default'"),
        ({"use_dora": True}, {}, {}, "is of the LoRA variant DoraLinearVariant; only plain LoRA can be pruned"),
        ({"lora_bias": True}, {}, {}, r"has a bias on B \(lora_bias\), which an export cannot carry"),
        ({"rank_pattern": {"q_proj": 2}}, {}, {}, r"the layers start at ranks \[2, 4\]; pruning starts from one rank"),
        ({"inference_mode": True}, {}, {}, "adapter 'default' is not trained"),
        ({"target_modules": ["q_proj", "embed_tokens"]}, {}, {}, "'.*embed_tokens' is an embedding with LoRA"),
        ({}, {}, {"curvature": "batch"}, "needs gradients that are not clipped, but the Trainer clips them at "),
        ({}, {"load_best_model_at_end": True, "save_strategy": "epoch", "eval_strategy": "epoch"}, {}, "would bring"),
    ],
)
def test_what_it_cannot_handle_is_refused_before_training(
    lora: dict[str, Any] | None,
    arguments_: dict[str, Any],
    pruning: dict[str, Any],
    message: str,
    llama: Callable[[], LlamaForCausalLM],
    tmp_path: Path,
) -> None:
    model: Any = llama()
    if lora is not None:
        model = get_peft_model(model, LoraConfig(**({"r": 4, "target_modules": ["q_proj", "v_proj"]} | lora)))
    ids = torch.arange(1000, 1010)
    examples = [{"input_ids": ids, "labels": ids}] * 8
    callback = PrunedLoraCallback(PruningConfig(**(CONFIG | pruning)))
    trainer = Trainer(
        model=model,
        args=arguments(tmp_path, **arguments_),
        train_dataset=examples,
        eval_dataset=examples,
        callbacks=[callback],
    )
    with pytest.raises(CallbackError, match=message):
        trainer.train()


def test_there_is_no_pruner_before_training() -> None:
    with pytest.raises(CallbackError, match="the callback has no model yet"):
        PrunedLoraCallback(PruningConfig(**CONFIG)).pruner  # noqa: B018


def test_the_package_offers_the_callback_by_name() -> None:
    import prunedlora

    with pytest.raises(AttributeError, match="has no attribute 'Callback'; it offers: PrunedLoraCallback"):
        prunedlora.Callback  # noqa: B018
