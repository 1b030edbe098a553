"""The sweep that shrinks an adapter: made of adapters that plain PEFT has saved, data and a few options; or refused."""

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, PeftConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from prunedlora.adapters.existing import ExistingAdapterError
from prunedlora.adapters.export import LABELS_FILE
from prunedlora.config.identity import LocationError
from prunedlora.config.load import ConfigError
from prunedlora.config.sweep import SweepConfig
from prunedlora.sweep.preflight import preflight
from prunedlora.sweep.shrink_base import check_base
from prunedlora.sweep.shrink_data import DataOptions
from prunedlora.sweep.shrink_original import ShrinkError, read_original
from prunedlora.sweep.shrink_plan import ShrinkOptions, ShrinkPlan, plan_shrink
from prunedlora.tasks.data_error import DataError
from prunedlora.training.model import ModelError
from prunedlora.trial import start
from tests.plain_adapters import change_weights
from tests.tiny import decoder_tree, sweep_tree

Q_AND_V = ["q_proj", "v_proj"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny models and data, and adapters that plain PEFT has made of them; none is changed by a test."""
    home = tmp_path_factory.mktemp("home")
    decoder_tree(home, home), sweep_tree(home, home)
    decoder = AutoModelForCausalLM.from_pretrained(home / "decoder")
    forms: dict[str, PeftConfig] = {
        "causal": LoraConfig(r=4, lora_alpha=8, target_modules=Q_AND_V, task_type="CAUSAL_LM"),
        "untold": LoraConfig(r=4, target_modules=Q_AND_V, rank_pattern={"v_proj": 2}),
        "vocabulary": LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["model.norm"], task_type="CAUSAL_LM"),
        "questions": LoraConfig(r=2, target_modules=["q_proj"], task_type="FEATURE_EXTRACTION"),
        "embedding": LoraConfig(r=2, target_modules=["embed_tokens"], task_type="CAUSAL_LM"),
        "dora": LoraConfig(r=2, target_modules=["q_proj"], use_dora=True),
        "ia3": IA3Config(target_modules=["k_proj"], feedforward_modules=[]),
        "one layer of rank 1": LoraConfig(r=1, target_modules=["layers.0.self_attn.q_proj"]),
    }
    for name, config in forms.items():
        _made(decoder, home / name, config)
        decoder = AutoModelForCausalLM.from_pretrained(home / "decoder")
    _made(decoder, home / "fresh", LoraConfig(r=2, target_modules=["q_proj"]), noise=0.0)
    bert = AutoModelForSequenceClassification.from_pretrained(home / "model")
    _made(bert, home / "classes", LoraConfig(r=4, target_modules=["query", "value"], task_type="SEQ_CLS"))
    return home


def _made(model: Any, folder: Path, config: PeftConfig, noise: float = 0.05) -> None:
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(3)
        adapted = get_peft_model(model, config)
        with torch.no_grad():
            for parameter in adapted.parameters():
                if parameter.requires_grad and noise:
                    parameter.add_(torch.randn_like(parameter) * noise)
        adapted.save_pretrained(folder)


def questions(home: Path, **more: Any) -> DataOptions:
    return DataOptions(**{"data": f"{home}/questions.json", "prompt": "{question}:", "target": " {answer}", **more})


def texts(home: Path, **more: Any) -> DataOptions:
    given = {"data": f"{home}/data.csv", "prompt": "{text}", "target": "{label}", "labels": "front,back", **more}
    return DataOptions(**given)


def plan(adapter: Path | str, data: DataOptions, steps: int = 0, **more: Any) -> ShrinkPlan:
    given = {"learning_rate": 2e-4, "batch_size": 4, "gpus_per_worker": 0.0, **more}
    return plan_shrink(ShrinkOptions(adapter=str(adapter), data=data, steps=steps, **given))


def copied(home: Path, name: str, to: Path, **config: Any) -> Path:
    """A copy of an adapter with fields of its configuration changed."""
    shutil.copytree(home / name, to)
    tree = json.loads((to / "adapter_config.json").read_text())
    (to / "adapter_config.json").write_text(json.dumps(tree | config))
    return to


def is_possible(sweep: SweepConfig) -> bool:
    """By all that is looked at before a start."""
    return bool(preflight(sweep).shares)


def test_cuts_alone(home: Path) -> None:
    found = plan(home / "causal", questions(home))
    sweep, trial = found.config, found.config.trial
    assert (sweep.name, sweep.storage) == ("shrink-causal", "runs/shrink-causal")
    assert (sweep.num_trials, sweep.space, sweep.baselines) == (0, {}, [{"label": "shrink"}])
    assert sweep.objectives == {"loss": "minimize", "adapter_params": "minimize"}
    assert sweep.recommend_within == 0.02
    assert trial.model.name == str(home / "decoder")
    assert (trial.method, trial.training.num_steps, trial.pruning) == ("lora", 0, None)
    assert trial.adapter is not None
    assert (trial.adapter.start_from, trial.adapter.head_modules) == (str(home / "causal"), [])
    assert trial.cuts is not None
    # Of 4 layers of rank 4, three of which are narrower than the fourth, an eighth is the last half that can be.
    assert trial.cuts.sizes.kept == [0.5, 0.25, 0.125]
    assert (trial.cuts.bases, trial.cuts.allocations, trial.cuts.at) == (
        ["svd", "whitened"],
        ["global_per_parameter"],
        "end",
    )
    assert (
        "Sizes left out: kept 0.0625, 0.03125: kept 0.0625 is below what a component of the widest layer takes; take "
        "at least kept 0.0715" in "\n".join(found.lines)
    )
    # 64 different prompts: a quarter each.
    assert (trial.data.num_validation, trial.data.num_test) == (16, 16)
    assert is_possible(sweep)
    assert found.lines[0] == f"Adapter: {home}/causal: 4 layers of rank 4, 896 parameters"
    assert found.lines[2] == (
        f"Data: '{home}/questions.json'; 16 validation and 16 test examples are cut from it (each: a quarter of its "
        "distinct prompts, at most 500)"
    )
    assert "Sizes: at most 448, 224, 112 parameters (kept 0.5, 0.25, 0.125)" in found.lines


def test_equal_ranks_where_sizes_are_whole_ranks(home: Path) -> None:
    def allocations(name: str, **sizes: str) -> list[str]:
        trial = plan(home / name, questions(home), **sizes).config.trial
        assert trial.cuts is not None
        return trial.cuts.allocations

    both = ["uniform", "global_per_parameter"]
    assert allocations("causal", mean_rank="2,1") == both
    assert allocations("causal", kept=".5,.25") == both
    assert allocations("causal", parameters="448,224") == both
    assert allocations("causal", parameters="448,225") == both[1:]
    assert allocations("untold", kept=".5") == both[1:], "its layers have unequal ranks"


def test_with_steps_a_ladder_from_the_adapter(home: Path) -> None:
    found = plan(home / "untold", questions(home), steps=5, mean_rank="2,1,.5", seed=7, num_workers=2)
    trial = found.config.trial
    assert trial.pruning is not None
    assert trial.cuts is not None
    ladder = trial.pruning.ladder
    assert ladder is not None
    assert (trial.method, trial.pruning.basis, trial.pruning.allocation) == (
        "prunedlora",
        "svd",
        "global_per_parameter",
    )
    assert (ladder.trunk, ladder.rate, ladder.rungs.mean_rank, trial.pruning.min_rank) == (0, "restart", [2, 1, 0.5], 0)
    assert (trial.training.num_steps, trial.training.batch_size, trial.seed) == (15, 4, 7)
    assert (trial.cuts.at, trial.cuts.sizes) == ("start", ladder.rungs)
    assert found.config.resources.num_workers == 2
    assert is_possible(found.config)


def test_a_classifier_with_its_head(home: Path) -> None:
    found = plan(home / "classes", texts(home), steps=2, learning_rate=1e-3)
    sweep, trial = found.config, found.config.trial
    assert sweep.objectives == {"accuracy": "maximize", "adapter_params": "minimize"}
    assert sweep.recommend_within == 0.01
    assert trial.head_modules == ["classifier"]
    assert trial.optimizer.head_learning_rate == 1e-3
    assert (trial.data.labels, trial.data.stratify) == (["front", "back"], True)
    assert "Classes, in the order of the logits: front, back" in found.lines
    assert is_possible(sweep)


def test_a_head_that_an_early_peft_does_not_name(home: Path, tmp_path: Path) -> None:
    folder = copied(home, "classes", tmp_path / "early", modules_to_save=None)
    found = plan(folder, texts(home))
    assert found.config.trial.head_modules == ["classifier"]
    assert is_possible(found.config)


def test_the_order_of_classes(home: Path, tmp_path: Path) -> None:
    unnamed = texts(home, labels=None)

    def labels(adapter: Path, data: DataOptions = unnamed, **more: Any) -> list[str] | None:
        return plan(adapter, data, **more).config.trial.data.labels

    told = copied(home, "classes", tmp_path / "told")
    (told / LABELS_FILE).write_text('{"0": "front", "1": "back"}')
    assert labels(told) == ["front", "back"]
    with pytest.raises(ShrinkError, match=r"--labels back,front contradicts adapter '.*', which tells 2, 'front', 'ba"):
        labels(told, texts(home, labels="back,front"))
    base = tmp_path / "base"
    shutil.copytree(home / "model", base)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"id2label": {"0": "front", "1": "back"}}))
    assert labels(home / "classes", base=str(base)) == ["front", "back"]
    numbers = tmp_path / "numbers.csv"
    numbers.write_text((home / "data.csv").read_text().replace(",front", ",1").replace(",back", ",0"))
    assert labels(home / "classes", texts(home, data=str(numbers), labels=None)) == ["0", "1"]
    assert labels(home / "classes", unnamed, overrides=["trial.data.labels=[back, front]"]) == ["back", "front"]


def test_labels_of_a_file_are_its_lines(home: Path, tmp_path: Path) -> None:
    data, names = tmp_path / "polite.csv", tmp_path / "labels.txt"
    data.write_text("text,label\n" + "".join(f'word {n},"{("yes, please", " no ")[n % 2]}"\n' for n in range(40)))
    names.write_text("yes, please\n no \n")
    found = plan(home / "classes", texts(home, data=str(data), labels=str(names))).config.trial.data
    assert found.labels == ["yes, please", " no "]
    names.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ShrinkError, match=r"--labels .*labels\.txt: the file is not UTF-8 text"):
        plan(home / "classes", texts(home, data=str(data), labels=str(names)))


def test_only_cutting_has_no_steps(home: Path) -> None:
    with pytest.raises(ShrinkError, match=r"--steps 0 only cuts, and --set gives trial\.training another length"):
        plan(home / "classes", texts(home), steps=0, overrides=["trial.training.num_steps=5"])


def test_labels_that_are_said_twice(home: Path) -> None:
    with pytest.raises(ShrinkError, match=r"--labels front,back has no effect beside data.labels back,front"):
        plan(home / "classes", texts(home), overrides=["trial.data.labels=[back, front]"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("back", "names 1, 'back', and the data have a class that is not among them: 'front'"),
        ("no,yes", "names 2, 'no', 'yes', and the data have classes that are not among them: 'back', 'front'"),
        ("front,front", "names a class twice: 1, 'front'"),
    ],
)
def test_labels_that_are_not_the_datas(given: str, message: str, home: Path) -> None:
    with pytest.raises(ShrinkError, match=f"--labels {given} {message}"):
        plan(home / "classes", texts(home, labels=given))


@pytest.fixture
def three(home: Path, tmp_path: Path) -> Path:
    """An adapter with a head of three classes, of which home's data have two."""
    bert = AutoModelForSequenceClassification.from_pretrained(home / "model", num_labels=3)
    _made(bert, tmp_path / "three", LoraConfig(r=4, target_modules=["query", "value"], task_type="SEQ_CLS"))
    return tmp_path / "three"


def test_small_data_may_lack_classes_that_are_told(home: Path, three: Path, tmp_path: Path) -> None:
    """By an option, by the adapter or by its base model; and who sets the data up says so."""
    names = ["front", "side", "back"]

    def told(**more: Any) -> SweepConfig:
        sweep = plan(three, texts(home, labels=more.pop("labels", None)), **more).config
        assert sweep.trial.data.labels == names
        return sweep

    warnings = preflight(told(labels="front,side,back")).warnings
    assert "train has no example of 1 of 3 classes ('side'): what it is of them, the data do not show" in warnings
    told(overrides=["trial.data.labels=[front, side, back]"])
    base = tmp_path / "base"
    shutil.copytree(home / "model", base)
    config = json.loads((base / "config.json").read_text())
    named = {str(number): name for number, name in enumerate(names)}
    (base / "config.json").write_text(json.dumps(config | {"id2label": named}))
    told(base=str(base))
    (three / LABELS_FILE).write_text(json.dumps(named))
    told()
    (three / LABELS_FILE).write_text(json.dumps(named | {"2": "rear"}))
    with pytest.raises(ShrinkError, match=r"three' tells 3, .*'rear', and the data have a class .*: 'back'"):
        told()
    (three / LABELS_FILE).unlink()
    with pytest.raises(ShrinkError, match=r"has a head of 3 classes \(classifier.bias\), and the data have 2"):
        plan(three, texts(home, labels=None))


WRONG_LABELS = {
    "a list": ('["front", "back"]', "it holds a list"),
    "names first": ('{"front": 0, "back": 1}', "its keys are 'front', 'back'"),
    "from one on": ('{"1": "front", "2": "back"}', "its keys are '1', '2'"),
    "no names": ('{"0": 1, "1": 2}', "1 is no name"),
    "one name": ('{"0": "front", "1": "front"}', "'front' is there twice"),
    "no JSON": ("front, back", "it is no JSON"),
}


@pytest.mark.parametrize("case", WRONG_LABELS)
def test_a_labels_file_of_another_form(case: str, home: Path, tmp_path: Path) -> None:
    text, why = WRONG_LABELS[case]
    folder = copied(home, "classes", tmp_path / "told")
    (folder / LABELS_FILE).write_text(text)
    form = 'it should be an object .* as {"0": "negative", "1": "positive"}'
    with pytest.raises(ExistingAdapterError, match=f"told/{LABELS_FILE}: {why}.*; {form}"):
        read_original(str(folder))


def test_given_splits_of_one_class(home: Path, tmp_path: Path) -> None:
    """Sources of their own for validation and test are taken as they are, with a word about them."""
    for name, label in {"validation": "front", "test": "back"}.items():
        (tmp_path / f"{name}.csv").write_text("text,label\n" + "".join(f"{name} {n},{label}\n" for n in range(9)))
    data = texts(home, validation=f"{tmp_path}/validation.csv", test=f"{tmp_path}/test.csv")
    said = "has examples of one class only, '{}': what it measures says nothing of the others"
    warnings = preflight(plan(home / "classes", data).config).warnings
    assert {f"validation {said.format('front')}", f"test {said.format('back')}"} <= set(warnings)


def test_what_it_is_for(home: Path, tmp_path: Path) -> None:
    def task(adapter: Path, data: DataOptions) -> str:
        return plan(adapter, data).config.trial.data.task

    assert task(home / "untold", questions(home)) == "generation", "by the architecture of its base"
    assert task(home / "vocabulary", questions(home)) == "generation", "by its task type"
    assert task(copied(home, "classes", tmp_path / "head", task_type=None), texts(home)) == "text_classification"
    with pytest.raises(ShrinkError, match=r"is of task type FEATURE_EXTRACTION: say --task generation or --task text_"):
        plan(home / "questions", questions(home))
    assert task(home / "questions", questions(home, task="generation")) == "generation"


def test_modules_of_a_language_model_that_are_trained_whole(home: Path) -> None:
    trial = plan(home / "vocabulary", questions(home)).config.trial
    assert trial.head_modules == ["model.norm"]
    assert trial.optimizer.head_learning_rate == 2e-4


def test_sections_of_a_sweep_file(home: Path, tmp_path: Path) -> None:
    tree = decoder_tree(home, tmp_path / "unused", max_new_tokens=3)
    tree["trial"]["evaluation"]["metric"] = "exact_match"
    tree["objectives"] = {"exact_match": "maximize", "adapter_params": "minimize"}
    tree["trial"]["model"]["gradient_checkpointing"] = False
    file = tmp_path / "sweep.yaml"
    file.write_text(json.dumps(tree))
    found = plan(home / "causal", DataOptions(str(file)), overrides=["trial.data.num_validation=9", "seed=3"])
    trial = found.config.trial
    assert trial.model.model_dump() == SweepConfig.model_validate(tree).trial.model.model_dump()
    assert (trial.data.num_validation, trial.data.num_test) == (9, 8)
    assert (trial.evaluation.metric, trial.evaluation.max_new_tokens) == ("exact_match", 3)
    assert trial.evaluation.milestones == [], "which are of another training's course"
    assert found.config.seed == 3
    assert found.lines[2].endswith("; 9 validation and 8 test examples are cut from it")
    with pytest.raises(ShrinkError, match=r"--metric, --max-length have no effect beside the sweep file"):
        plan(home / "causal", DataOptions(str(file), metric="loss", max_length=3))
    with pytest.raises(ShrinkError, match=r"sweep.yaml: its task is 'generation', and adapter '.*' is for 'text_class"):
        plan(home / "classes", DataOptions(str(file)))
    with pytest.raises(ConfigError, match=r"cannot read .*gone.yaml"):
        plan(home / "causal", DataOptions(f"{tmp_path}/gone.yaml"))


def test_own_sources_are_not_cut(home: Path) -> None:
    file = f"{home}/questions.json"
    data = plan(home / "causal", questions(home, validation=file, num_test=5)).config.trial.data
    assert (data.num_validation, data.num_test) == (None, 5)
    assert [source.prompt for source in data.sources("validation")] == ["{question}:"]
    with pytest.raises(ShrinkError, match=r"--num-test 5 has no effect beside --test"):
        plan(home / "causal", questions(home, test=file, num_test=5))


def test_generated_data_have_defaults(home: Path) -> None:
    data = plan(home / "causal", DataOptions("reasoning_gym:chain_sum", num_validation=3, num_test=3)).config.trial.data
    [source] = data.sources("train")
    assert (source.prompt, source.target, source.num_examples) == ("{question}", "{answer}", 2000)


def test_another_place_of_the_base(home: Path, tmp_path: Path) -> None:
    moved = copied(home, "causal", tmp_path / "moved", base_model_name_or_path="/gone/decoder")
    with pytest.raises(
        ShrinkError, match=r"'/gone/decoder' does not exist .*; adapter '.*moved' calls its base so; --b"
    ):
        plan(moved, questions(home))
    found = plan(moved, questions(home), base=str(home / "decoder"), dtype="float32").config
    assert (found.trial.model.name, found.trial.model.dtype) == (str(home / "decoder"), "float32")
    assert is_possible(found)
    nameless = copied(home, "causal", tmp_path / "nameless", base_model_name_or_path=None)
    with pytest.raises(ShrinkError, match=r"does not name its base model: give --base"):
        plan(nameless, questions(home))


def test_another_base(home: Path, tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    wide = tmp_path / "wide"
    shutil.copytree(home / "decoder", wide)
    config = LlamaConfig.from_pretrained(home / "decoder", hidden_size=64)
    LlamaForCausalLM(config).save_pretrained(wide)
    with pytest.raises(
        ShrinkError, match=r"of another base model than '.*wide': 'model.layers.0.self_attn.q_proj' has"
    ):
        plan(home / "causal", questions(home), base=str(wide))
    with pytest.raises(ModelError, match=r"does not fit the task"):
        plan(home / "causal", questions(home), base=str(home / "model"))


def test_as_many_classes_as_the_head_has(home: Path, tmp_path: Path) -> None:
    three = tmp_path / "three.csv"
    rows = (home / "data.csv").read_text()
    three.write_text(rows + "".join(f"cloud {n},other\n" for n in range(20)))
    with pytest.raises(ShrinkError, match=r"has a head of 2 classes \(classifier.bias\), and the data have 3"):
        plan(home / "classes", texts(home, data=str(three), labels=None))
    with pytest.raises(ShrinkError, match=r"has a head of 2 classes .*, and --labels front,other,back names 3"):
        plan(home / "classes", texts(home, data=str(three), labels="front,other,back"))


SIZES = {
    "what it has": ({"mean_rank": "4,2"}, "mean_rank 4 removes nothing: the adapter has mean_rank 4; .*896 parameters"),
    "more": ({"parameters": "900"}, "parameters 900 removes nothing: the adapter has 896 parameters"),
    "too little": ({"kept": ".5,.001"}, "kept 0.001 is below what a component of the widest layer takes"),
    "not falling": ({"kept": ".25,.5"}, r"--kept .25,.5: kept must fall: \[0.25, 0.5\]"),
    "no share": ({"kept": "50"}, "--kept 50: Input should be less than 1"),
    "no number": ({"kept": "half"}, "--kept 'half' is no list of numbers, as .5,.25"),
    "no whole one": ({"parameters": "1.5"}, "--parameters '1.5' is no list of whole numbers"),
    "two units": ({"kept": ".5", "mean_rank": "2"}, "--kept and --mean-rank both say the sizes: give one of them"),
}


@pytest.mark.parametrize("case", SIZES)
def test_sizes_that_cannot_be(case: str, home: Path) -> None:
    sizes, message = SIZES[case]
    with pytest.raises(ShrinkError, match=message):
        plan(home / "causal", questions(home), **sizes)


def test_sizes_of_overrides_are_looked_at_too(home: Path) -> None:
    with pytest.raises(ShrinkError, match=r"mean_rank 9: mean_rank 9 removes nothing"):
        plan(home / "causal", questions(home), overrides=["trial.cuts.sizes={mean_rank: [9]}"])


def _file(home: Path, folder: Path) -> Path:
    folder.write_text("x")
    return folder


def _empty(home: Path, folder: Path) -> Path:
    folder.mkdir()
    return folder


def _without_weights(home: Path, folder: Path) -> Path:
    copied(home, "causal", folder)
    (folder / "adapter_model.safetensors").unlink()
    return folder


def _without(home: Path, folder: Path, ending: str) -> Path:
    copied(home, "causal", folder)
    change_weights(folder, **{f"model__{ending.replace('.', '__')}": None})
    return folder


def _damaged(home: Path, folder: Path) -> Path:
    copied(home, "causal", folder)
    (folder / "adapter_model.safetensors").write_bytes(b"\x10" + bytes(7) + b"no json at all")
    return folder


NO_ADAPTERS: dict[str, tuple[Callable[[Path, Path], Path], str]] = {
    "no folder": (lambda home, folder: folder, r"adapter '.*' does not exist \(looked for"),
    "a file": (_file, "is a file: name the folder that PEFT's save_pretrained wrote"),
    "empty": (_empty, "is no folder of an adapter: it has no adapter_config.json; it is empty"),
    "a model": (lambda home, _: home / "decoder", "has no adapter_config.json; it is that of a whole model"),
    "one above": (lambda home, _: home, "there is one in .*/causal, .*/classes, .*, and 7 more"),
    "no weights": (_without_weights, "has no weights: adapter_model.safetensors or adapter_model.bin beside its"),
    "damaged": (_damaged, "its weights cannot be read"),
    "another tuner": (lambda home, _: home / "ia3", "is of kind IA3: only LoRA adapters can be shrunk$"),
    "one that converts": (
        lambda home, to: copied(home, "ia3", to, peft_type="LOHA"),
        "is of kind LOHA: only LoRA .*; PEFT makes a LoRA of this kind",
    ),
    "prompts": (
        lambda home, to: copied(home, "ia3", to, peft_type="PROMPT_TUNING"),
        "is of kind PROMPT_TUNING: only LoRA adapters can be shrunk$",
    ),
    "an unknown tuner": (lambda home, to: copied(home, "ia3", to, peft_type="X"), "is of kind X: only LoRA"),
    "half a layer": (lambda home, to: _without(home, to, "layers.0.self_attn.q_proj.lora_B.weight"), "no weights for"),
    "the other half": (
        lambda home, to: _without(home, to, "layers.0.self_attn.q_proj.lora_A.weight"),
        "no weights for",
    ),
    "layers that it does not name": (
        lambda home, to: copied(home, "causal", to, target_modules=["q_proj"]),
        r"has weights for 'model\.layers\.0\.self_attn\.v_proj', '.*', which its adapter_config.json does not name",
    ),
    "dora": (lambda home, _: home / "dora", "has use_dora True"),
    "an embedding": (lambda home, _: home / "embedding", "adapts '.*embed_tokens', an Embedding; linear layers alone"),
    "fresh": (lambda home, _: home / "fresh", "every update B A is zero"),
}


@pytest.mark.parametrize("case", NO_ADAPTERS)
def test_what_is_no_adapter_to_shrink(case: str, home: Path, tmp_path: Path) -> None:
    make, message = NO_ADAPTERS[case]
    with pytest.raises((ShrinkError, ExistingAdapterError), match=message):
        read_original(str(make(home, tmp_path / "adapter")))


def test_places_that_are_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        LocationError, match=r"'hf://a/b' is neither a folder .*; a place with :// cannot be read as on"
    ):
        read_original("hf://a/b")
    monkeypatch.setattr(start, "HF_HUB_OFFLINE", True)
    with pytest.raises(LocationError, match=r"the Hub does not give it: HF_HUB_OFFLINE is set, and this machine's cac"):
        read_original("nobody/nothing")


def test_without_data_a_base_is_compared(home: Path, tmp_path: Path) -> None:
    """By names and shapes; what the file lacks or has too much is named."""
    for name in ("causal", "untold", "vocabulary"):
        check_base(read_original(str(home / name)), str(home / "decoder"))
    check_base(read_original(str(home / "classes")), str(home / "model"))
    half = copied(home, "causal", tmp_path / "half")
    gone = {f"model__layers__1__self_attn__v_proj__lora_{factor}__weight": None for factor in "AB"}
    change_weights(half, **gone)
    with pytest.raises(ShrinkError, match=r"half' has no weights for 'model\.layers\.1\.self_attn\.v_proj', which its"):
        check_base(read_original(str(half)), str(home / "decoder"))
    stray = copied(home, "causal", tmp_path / "stray")
    change_weights(stray, some__thing=torch.ones(2))
    with pytest.raises(ShrinkError, match=r"stray' has weights 'some\.thing', which base model '.*decoder' has not"):
        check_base(read_original(str(stray)), str(home / "decoder"))
    with pytest.raises(ModelError, match=r"does not fit the task"):
        check_base(read_original(str(home / "causal")), str(home / "model"))
    with pytest.raises(ShrinkError, match=r"of another base model than '.*model': it adapts 'model.layers.0.self_attn"):
        check_base(read_original(str(home / "questions")), str(home / "model"))
    with pytest.raises(ShrinkError, match=r"'nowhere/else' .*; --base says where it lies"):
        check_base(read_original(str(home / "causal")), "nowhere/else")


def test_nothing_to_remove(home: Path) -> None:
    with pytest.raises(
        ShrinkError, match=r"there is nothing to remove: 1 layer of rank 1, 64 parameters, of which no ha"
    ):
        plan(home / "one layer of rank 1", questions(home))


def test_names_that_are_not_of_the_hub(home: Path) -> None:
    with pytest.raises(ShrinkError, match=r"--revision main has no effect on '.*causal', which is not from the Hub"):
        read_original(str(home / "causal"), "main")
    with pytest.raises(ShrinkError, match=r"'store:runs' names no candidate: write store:STORE/KEY@NAME"):
        read_original("store:runs")


def test_a_classifier_without_a_head_in_its_file(home: Path, tmp_path: Path) -> None:
    folder = copied(home, "untold", tmp_path / "headless", task_type="SEQ_CLS")
    with pytest.raises(ShrinkError, match=r"is of a classifier .*, and its file holds no head"):
        plan(folder, texts(home))


DATA = {
    "no file": ({"data": "gone.json"}, DataError, "'gone.json' does not exist"),
    "no limit of answers": (
        {"metric": "exact_match"},
        ShrinkError,
        "--metric exact_match generates answers: give --max-",
    ),
    "a limit of none": ({"max_new_tokens": 3}, ShrinkError, "--max-new-tokens 3 has no effect on metric 'loss'"),
    "labels of text": ({"labels": "a,b"}, ShrinkError, "--labels a,b has no effect on task 'generation'"),
    "half a template": ({"target": None}, ConfigError, "prompt and target go together"),
    "no such metric": ({"metric": "accuracy"}, ConfigError, "evaluation.metric 'accuracy' is unknown to task"),
}


@pytest.mark.parametrize("case", DATA)
def test_data_that_cannot_be(case: str, home: Path) -> None:
    given, kind, message = DATA[case]
    with pytest.raises(kind, match=message):
        plan(home / "causal", questions(home, **given))


def test_classes_need_templates(home: Path) -> None:
    with pytest.raises(ShrinkError, match=r"classes are read by templates: give --prompt and --target"):
        plan(home / "classes", texts(home, prompt=None, target=None))


def test_too_few_to_cut(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "few.json"
    file.write_text(json.dumps([{"question": str(n), "answer": "a"} for n in range(3)]))
    with pytest.raises(ShrinkError, match=r"3 distinct prompts are too few to cut validation and test examples from"):
        plan(home / "causal", questions(home, data=str(file)))


def test_overrides_that_are_no_fields(home: Path) -> None:
    with pytest.raises(ConfigError, match=r"--set trial.cuts.base: no such field"):
        plan(home / "causal", questions(home), overrides=["trial.cuts.base=svd"])
    with pytest.raises(ShrinkError, match=r"trial.model.dtype: Input should be 'auto'"):
        plan(home / "causal", questions(home), overrides=["trial.model.dtype=float8"])
