"""The callback in a real `transformers.Trainer` and TRL's `SFTTrainer`: choices of our loop, a plain adapter after."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.trainer_pt_utils import LayerWiseDummyOptimizer
from trl import SFTConfig, SFTTrainer

from prunedlora import PrunedLoraCallback, PruningConfig
from prunedlora.adapters.export import export
from prunedlora.adapters.layers import adapted_layers
from prunedlora.config.load import parse_sweep
from prunedlora.config.trial import trial_with
from prunedlora.integrations import saved_adapter
from prunedlora.integrations.trainer_checks import CallbackError
from prunedlora.integrations.transformers import TargetNotReachedWarning
from prunedlora.pruning import pruner as pruner_module
from prunedlora.pruning.event import remove, with_gradient
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
            checkpoint_every_steps=None,
            on_step=lambda _: Verdict.CONTINUE,
            on_rung=lambda _: None,
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


@pytest.mark.parametrize("curvature", ["token", "batch"])
def test_the_gradient_s_step_is_that_of_our_loop(
    curvature: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our loop sums the loss over targets, the Trainer takes means: ‖G P‖ / ‖W‖, before the cap, is the same."""
    steps: list[list[float]] = []

    def seen(layers: Any, criterion: Any, known: Any, *inputs: Any, gradients: Any, **named: Any) -> Any:
        _, share = with_gradient(layers, known, gradients, 1e-9)  # a cap that always caps shows the step
        steps.append((1e-9 / share).tolist())
        return remove(layers, criterion, known, *inputs, gradients=gradients, **named)

    monkeypatch.setattr(pruner_module, "remove", seen)
    setting = Setting(folder, gradient_cap=0.1, curvature=curvature)
    setting.trial = trial_with(setting.trial, {"optimizer.max_grad_norm": None})
    setting.by_our_loop()
    ours = steps[0]
    steps.clear()
    setting.trainer(tmp_path, max_grad_norm=0.0)[0].train()
    assert steps[0] == pytest.approx(ours, rel=1e-3)


LATE = {"ema_decay": 0.01, "schedule.begin": 0.6, "schedule.end": 0.9}
"""Two steps count: of 12, the first event is on step 8, the first observed step 7."""


def has_hooks(model: torch.nn.Module) -> bool:
    return any(module._forward_hooks for module in model.modules())


def test_statistics_are_collected_from_where_they_count_on(folder: Path, tmp_path: Path) -> None:
    ours, _ = Setting(folder, **LATE).by_our_loop()
    trainer, callback = Setting(folder, **LATE).trainer(tmp_path)
    seen: list[bool] = []
    for step in range(1, 13):
        with_act(trainer, Act(step, lambda model, _: seen.append(has_hooks(model))), first=True)
    trainer.train()
    assert [event.step for event in ours] == [8, 10, 11]
    assert [event.removed for event in callback.events] == [event.removed for event in ours]
    assert seen == [7 <= step <= 11 for step in range(1, 13)]


@pytest.mark.parametrize("how", ["a module", "the whole", "by the trainer"])
def test_a_compiled_model_is_watched_from_the_beginning(how: str, folder: Path, tmp_path: Path) -> None:
    """What is compiled does not see hooks that come later."""
    trainer, callback = Setting(folder, **LATE).trainer(tmp_path)
    trainer.state.max_steps = 12
    begin(trainer, callback)
    assert not has_hooks(trainer.model)
    if how == "a module":
        adapted_layers(trainer.model, "default")[0].lora_B.compile(backend="eager")
    elif how == "the whole":
        trainer.model.compile(backend="eager")
    else:
        trainer.args.torch_compile = True
    begin(trainer, callback)
    assert has_hooks(trainer.model)


def test_a_gradient_cap_without_labels_is_refused_at_once(
    llama: Callable[[], LlamaForCausalLM], tmp_path: Path
) -> None:
    """Though targets count only once observing begins."""
    model = get_peft_model(llama(), LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    schedule = SCHEDULE | {"begin": 0.6, "end": 0.9}
    pruning = PruningConfig(target_rank=2, gradient_cap=0.1, ema_decay=0.01, schedule=schedule)
    trainer = InOwnLoss(
        model=model,
        args=arguments(tmp_path, max_grad_norm=0.0),
        train_dataset=[{"input_ids": torch.arange(1000, 1010)}] * 8,
        callbacks=[PrunedLoraCallback(pruning)],
    )
    with pytest.raises(CallbackError, match="needs the number of targets of a step"):
        trainer.train()
    assert trainer.state.global_step == 0


@pytest.mark.parametrize(
    ("pruning", "done"), [({}, 6), (LATE, 5), (LATE, 6), (LATE | {"gradient_cap": 0.1}, 5)], ids=str
)
def test_a_resumed_training_goes_on_as_if_it_had_not_stopped(
    pruning: dict[str, Any], done: int, folder: Path, tmp_path: Path
) -> None:
    clip = {"max_grad_norm": 0.0}
    whole, _ = Setting(folder, **pruning).trainer(tmp_path / "whole", **clip)
    whole.train()
    saved = {"save_strategy": "steps", "save_steps": done} | clip
    Setting(folder, **pruning).trainer(tmp_path / "two", **saved)[0].train()
    resumed, callback = Setting(folder, **pruning).trainer(tmp_path / "two", **saved)
    checkpoint = tmp_path / "two" / f"checkpoint-{done}"
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert callback.events
    assert min(event.step for event in callback.events) > done
    left, right = (dict(trainer.model.named_parameters()) for trainer in (whole, resumed))
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
    (checkpoint / "pruner.safetensors").unlink()
    with pytest.raises(CallbackError, match=rf"cannot resume: .*checkpoint-{done} has no pruner\.safetensors"):
        Setting(folder, **pruning).trainer(tmp_path / "two", **clip)[0].train(resume_from_checkpoint=str(checkpoint))


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
        (
            {},
            {},
            {"curvature": "batch"},
            "curvature 'batch' needs gradients that are not clipped, but the Trainer clips them at ",
        ),
        ({}, {}, {"gradient_cap": 0.1}, "gradient_cap needs gradients that are not clipped, but the Trainer clips"),
        ({}, {}, {"criterion": "taylor"}, "criterion 'taylor' needs gradients that are not clipped, but the Trainer"),
        ({}, {"max_grad_norm": 0.0, "labels": False}, {"gradient_cap": 0.1}, "needs the number of targets of a step"),
        ({"init_lora_weights": "pissa"}, {}, {}, "has init_lora_weights 'pissa', which may change base weights"),
        ({"init_lora_weights": "olora"}, {}, {}, "has init_lora_weights 'olora', which may change base weights"),
        ({"trainable_token_indices": [5, 6]}, {}, {}, r"has trainable_token_indices \[5, 6\], which an export does"),
        ({"layer_replication": [[0, 2], [0, 2]]}, {}, {}, r"has layer_replication \[.*\], which an export does not"),
        ({"bias": "all"}, {}, {}, "has bias 'all', which an export does not carry: leave it at 'none'"),
        ({}, {"fp16": True}, {}, r"fp16 scales the loss, .* train in bf16 \(bf16=True\)"),
        ({}, {"fsdp": True}, {}, "FSDP shares the factors out .* train under DDP"),
        ({}, {"deepspeed": {"zero_optimization": {"stage": 1}}}, {}, "DeepSpeed keeps master copies .* under DDP"),
        ({"dtype": torch.float16}, {}, {}, "has factors in float16, whose gradients overflow"),
        ({}, {}, {"target_rank": 5}, "target_rank 5"),
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
    """What a CPU lets nobody construct (fp16, DeepSpeed) is set on arguments that are otherwise real."""
    model: Any = llama()
    if lora is not None:
        dtype = lora.get("dtype", torch.float32)
        settings = {"r": 4, "target_modules": ["q_proj", "v_proj"]} | {k: v for k, v in lora.items() if k != "dtype"}
        model = get_peft_model(model, LoraConfig(**settings)).to(dtype)
    given = {name: value for name, value in arguments_.items() if name not in (*SET_LATER, "labels")}
    ids = torch.arange(1000, 1010)
    examples = [{"input_ids": ids} | ({"labels": ids} if arguments_.get("labels", True) else {})] * 8
    callback = PrunedLoraCallback(PruningConfig(**(CONFIG | pruning)))
    trainer = InOwnLoss(
        model=model,
        args=arguments(tmp_path, **given),
        train_dataset=examples,
        eval_dataset=examples,
        callbacks=[callback],
    )
    for name in set(arguments_) & set(SET_LATER):
        setattr(trainer.args, name, arguments_[name])
    with pytest.raises(CallbackError, match=message):
        trainer.train() if not set(arguments_) & set(SET_LATER) else begin(trainer, callback)


SET_LATER = ("fp16", "fsdp", "deepspeed")


def begin(trainer: Trainer, callback: PrunedLoraCallback) -> None:
    """What the Trainer does first, where the rest of it cannot run here."""
    callback.on_train_begin(trainer.args, trainer.state, trainer.control, model=trainer.model, optimizer=None)


class ScheduleFree(torch.optim.SGD):
    """Of the shape of schedulefree's optimizers, which are not installed here."""

    def train(self) -> None: ...

    def eval(self) -> None: ...


class Lomo(torch.optim.SGD):
    """Of the shape of lomo_optim's."""

    def fused_backward(self, loss: Any, lr: float) -> None: ...


class WithMasters(torch.optim.SGD):
    """Of the shape of FusedAdam of Apex and Transformer Engine."""

    master_weights = True


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            ScheduleFree,
            "the optimizer ScheduleFree trains other weights than those that are evaluated, where .* take",
        ),
        (Lomo, "the optimizer Lomo changes weights in the backward pass"),
        (WithMasters, "the optimizer WithMasters keeps master copies of the weights"),
        (LayerWiseDummyOptimizer, "the optimizer LayerWiseDummyOptimizer changes weights in the backward pass"),
    ],
)
def test_an_optimizer_with_weights_of_its_own_is_refused_wherever_it_comes_from(
    kind: type[torch.optim.Optimizer], message: str, llama: Callable[[], LlamaForCausalLM], tmp_path: Path
) -> None:
    model = get_peft_model(llama(), LoraConfig(r=4, target_modules=["q_proj"]))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    ids = torch.arange(1000, 1010)
    trainer = Trainer(
        model=model,
        args=arguments(tmp_path),
        train_dataset=[{"input_ids": ids, "labels": ids}] * 8,
        callbacks=[PrunedLoraCallback(PruningConfig(**CONFIG))],
        optimizers=(kind(trained), None),
    )
    with pytest.raises(CallbackError, match=message):
        trainer.train()


class InOwnLoss(Trainer):
    """A Trainer whose examples may come without labels."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        output = model(**inputs)
        loss = output.logits.float().square().mean()
        return (loss, output) if return_outputs else loss


class Act(TrainerCallback):
    """Does something before the optimizer's step of one number (from 1)."""

    def __init__(self, step: int, act: Callable[[Any, Any], None]) -> None:
        self.step, self.act = step, act

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step + 1 == self.step:
            self.act(kwargs["model"], control)


def with_act(trainer: Trainer, act: Act, *, first: bool) -> Trainer:
    trainer.add_callback(act)
    if first:
        trainer.callback_handler.callbacks.insert(0, trainer.callback_handler.callbacks.pop())
    return trainer


def overflow(model: Any, _: Any) -> None:
    adapted_layers(model, "default")[0].B.grad.fill_(float("inf"))


def drop_gradients(model: Any, _: Any) -> None:
    model.zero_grad()


def test_a_step_that_is_not_finite_is_not_observed(folder: Path, tmp_path: Path) -> None:
    """Left out by the trainer too, it is as if the averages had never seen it, and training reaches its target."""
    trainer, callback = Setting(folder, curvature="batch").trainer(tmp_path, max_grad_norm=0.0)
    with_act(trainer, Act(4, overflow), first=True)
    with_act(trainer, Act(4, drop_gradients), first=False)
    seen: list[tuple[int, bool]] = []

    def look(model: Any, _: Any) -> None:
        averages = {name: v for name, v in callback.pruner.state_dict().items() if name.startswith("average.")}
        seen.append(
            (int(callback.pruner.state_dict()["num_observed"]), all(v.isfinite().all() for v in averages.values()))
        )

    for step in (3, 4, 5):
        with_act(trainer, Act(step, look), first=False)
    trainer.train()
    assert seen == [(3, True), (3, True), (4, True)]
    assert 4 not in [event.step for event in callback.events]
    assert callback.pruner.is_done


def test_an_adapter_that_is_not_finite_ends_the_training(folder: Path, tmp_path: Path) -> None:
    trainer, _ = Setting(folder).trainer(tmp_path)
    with_act(trainer, Act(4, overflow), first=True)
    with pytest.raises(CallbackError, match="the adapter is not finite after step 4: a gradient was infinite or NaN"):
        trainer.train()
    assert not (tmp_path / "pruned_adapter").exists()


def test_a_target_not_reached_is_said(folder: Path, tmp_path: Path) -> None:
    def stop(_: Any, control: Any) -> None:
        control.should_training_stop = True

    trainer, callback = Setting(folder).trainer(tmp_path)
    with_act(trainer, Act(4, stop), first=False)
    match = (
        r"training ended after 4 of 12 steps, when 33% of what was to go was gone: .* ranks 5 to 5, 60 components in 12"
    )
    with pytest.warns(TargetNotReachedWarning, match=match):
        trainer.train()
    assert [event.step for event in callback.events] == [4]


def test_a_second_training_is_its_own(folder: Path, tmp_path: Path) -> None:
    """Its events, its hooks, and an optimizer that trains the smaller adapter."""
    trainer, callback = Setting(folder).trainer(tmp_path)
    trainer.train()
    assert {rank for event in callback.events[-1:] for rank in event.ranks.values()} == {3}
    first = [layer.B.detach().clone() for layer in adapted_layers(trainer.model, "default")]
    callback.settings = replace(callback.settings, target_sparsity=0.3)
    trainer.train()
    assert [set(event.ranks.values()) for event in callback.events] == [{2}]
    second = [layer.B for layer in adapted_layers(trainer.model, "default")]
    assert {B.shape[1] for B in second} == {2}
    assert not any(B[:, :1].equal(old[:, :1]) for B, old in zip(second, first, strict=True))
    assert not any(module._forward_pre_hooks for module in trainer.model.modules())


def test_a_training_begun_anew_over_removed_components_is_refused(folder: Path, tmp_path: Path) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    trainer, _ = Setting(folder).trainer(tmp_path)
    with_act(trainer, Act(6, interrupt), first=False)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    with pytest.raises(CallbackError, match="without its last step and left 1 removals in the adapter: resume"):
        trainer.train()


def test_what_is_saved_is_compared_with_what_was_trained(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def export_wrongly(model: Any, name: str, path: Path, base: str) -> None:
        export(model, name, path, base)
        file = path / "adapter_model.safetensors"
        save_file({key: tensor * 1.01 for key, tensor in load_file(file).items()}, file)

    monkeypatch.setattr(saved_adapter, "export", export_wrongly)
    with pytest.raises(
        CallbackError, match=r"what was saved in .*pruned_adapter is not the adapter that was trained: layer .* other w"
    ):
        Setting(folder).trainer(tmp_path)[0].train()


@pytest.mark.parametrize(
    ("lora", "dtype"),
    [
        ({"layers_to_transform": [1]}, torch.float32),
        ({"use_rslora": True, "alpha_pattern": {"q_proj": 3}, "exclude_modules": ["k_proj"]}, torch.float32),
        ({"init_lora_weights": "orthogonal", "modules_to_save": ["lm_head"]}, torch.float32),
        ({}, torch.bfloat16),
    ],
    ids=str,
)
def test_what_an_adapter_may_have_is_saved_with_it(
    lora: dict[str, Any], dtype: torch.dtype, llama: Callable[[], LlamaForCausalLM], tmp_path: Path
) -> None:
    """By the callback and by the trainer: PEFT alone gives the trained model's logits again."""
    model = get_peft_model(llama(), LoraConfig(**({"r": 4, "target_modules": ["q_proj", "k_proj"]} | lora))).to(dtype)
    ids = torch.arange(1000, 1010)
    trainer = Trainer(
        model=model,
        args=arguments(tmp_path, learning_rate=2e-2),
        train_dataset=[{"input_ids": ids, "labels": ids}] * 96,
        callbacks=[PrunedLoraCallback(PruningConfig(**CONFIG))],
    )
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    expected = trainer.model.eval()(input_ids=ids[None]).logits
    for name in ("pruned_adapter", "saved"):
        plain = PeftModel.from_pretrained(llama().to(dtype), tmp_path / name).eval()
        tolerance = 1e-5 if dtype == torch.float32 else 2e-2
        torch.testing.assert_close(plain(input_ids=ids[None]).logits, expected, rtol=0, atol=tolerance)


def test_there_is_no_pruner_before_training() -> None:
    with pytest.raises(CallbackError, match="the callback has no model yet"):
        PrunedLoraCallback(PruningConfig(**CONFIG)).pruner  # noqa: B018


def test_the_package_offers_the_callback_by_name() -> None:
    import prunedlora

    with pytest.raises(AttributeError, match="has no attribute 'Callback'; it offers: PrunedLoraCallback"):
        prunedlora.Callback  # noqa: B018
