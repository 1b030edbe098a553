"""lm-evaluation-harness on a model in memory gives what `lm_eval` itself gives, and leaves everything as it was."""

import math
import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from transformers import AutoModelForCausalLM, AutoTokenizer

from prunedlora.tasks.outcomes import Figure
from prunedlora.training.distributed import Workers
from prunedlora.training.harness import (
    HarnessError,
    HarnessSettings,
    check_chat_template,
    check_share,
    evaluate_harness,
    load_tasks,
)
from prunedlora.training.harness_objective import DocumentScores, document_scores
from tests.harness_tasks import GROUP, needs_harness, write_tasks
from tests.tiny import make_decoder

ALONE = Workers(0, 1, torch.device("cpu"))
SETTINGS = HarnessSettings((), (), num_fewshot=None, limit=None, batch_size=8, unsafe_code=False)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
    load_tasks.cache_clear()


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_decoder(tmp_path_factory.mktemp("decoder") / "model")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tasks(tmp_path / "tasks")


def of(*paths: Path, **changes: Any) -> HarnessSettings:
    return replace(SETTINGS, paths=paths, **changes)


def measure(decoder: Path, settings: HarnessSettings, workers: Workers = ALONE, **options: Any) -> dict[str, Figure]:
    model = options.pop("model", None) or AutoModelForCausalLM.from_pretrained(decoder)
    tokenizer, tasks = AutoTokenizer.from_pretrained(decoder), load_tasks(settings)
    dtype = options.pop("dtype", torch.float32)
    return evaluate_harness(model, tokenizer, tasks, settings, dtype=dtype, workers=workers, **options).figures


@needs_harness
def test_figures_are_those_of_lm_eval(decoder: Path, folder: Path) -> None:
    """Bit for bit, by the harness's own entry with a model that it loads itself; examples in the prompt and limit too.
    A second measurement with the same tasks draws the same examples."""
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    paths = [folder / "word_side.yaml", folder / "all_text.yaml"]
    settings = of(*paths, num_fewshot=2, limit=20)
    lm = HFLM(str(decoder), dtype="float32", device="cpu", batch_size=8)
    theirs = simple_evaluate(lm, tasks=[str(path) for path in paths], num_fewshot=2, limit=20)["results"]
    ours = measure(decoder, settings)
    assert ours == measure(decoder, settings)
    assert ours == {
        "harness/all_text/bits_per_byte": Figure(theirs["all_text"]["bits_per_byte,none"], None, 20),
        "harness/word_side/acc": Figure(
            theirs["word_side"]["acc,none"], theirs["word_side"]["acc_stderr,none"], 20
        ),
    }  # fmt: skip
    assert 0 < ours["harness/word_side/acc"].value < 1
    assert measure(decoder, of(*paths, num_fewshot=0, limit=20)) != ours


TEMPLATE = (
    "{% for turn in messages %}<{{ turn.role }}{{ tone or '' }}>{{ turn.content }}<end>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@needs_harness
@pytest.mark.parametrize("tone", [{}, {"tone": " calm"}])
def test_prompts_by_a_chat_template_are_those_of_lm_eval(decoder: Path, folder: Path, tone: dict[str, str]) -> None:
    """With a system instruction, and examples in the prompt as turns of their own."""
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    tokenizer = AutoTokenizer.from_pretrained(decoder)
    tokenizer.chat_template = TEMPLATE
    paths = [folder / "word_side.yaml", folder / "first_word.yaml"]
    lm = HFLM(
        str(decoder), tokenizer=tokenizer, dtype="float32", device="cpu", batch_size=8, chat_template_args=dict(tone)
    )
    asked: dict[str, Any] = {"apply_chat_template": True, "system_instruction": "Take the house."}
    logged = simple_evaluate(
        lm,
        tasks=[str(path) for path in paths],
        limit=12,
        fewshot_as_multiturn=True,
        task_manager=TaskManager(include_defaults=False),
        **asked,
    )
    settings = of(*paths, limit=12, **asked)
    tasks, model = load_tasks(settings), AutoModelForCausalLM.from_pretrained(decoder)
    ours = evaluate_harness(
        model, tokenizer, tasks, settings, dtype=torch.float32, workers=ALONE, template_kwargs=tone, log_samples=True
    )
    for task in ("word_side", "first_word"):
        mine, theirs = ours.samples[task], logged["samples"][task]
        assert [each["arguments"] for each in mine] == [each["arguments"] for each in theirs]
        assert [each["resps"] for each in mine] == [each["resps"] for each in theirs]
    prompt = mine[0]["arguments"][0][0]
    assert prompt.startswith(f"<system{tone.get('tone', '')}>Take the house.<end><user")
    assert prompt.endswith("<assistant>")
    accuracy = ours.figures["harness/word_side/acc"]
    assert accuracy.value == logged["results"]["word_side"]["acc,none"]


@needs_harness
def test_examples_in_the_prompt_are_turns_of_their_own(decoder: Path, folder: Path) -> None:
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    tokenizer, path = AutoTokenizer.from_pretrained(decoder), folder / "word_side.yaml"
    tokenizer.chat_template = TEMPLATE
    settings = of(path, limit=8, num_fewshot=1, apply_chat_template=True)
    model = AutoModelForCausalLM.from_pretrained(decoder)
    ours = evaluate_harness(
        model, tokenizer, load_tasks(settings), settings, dtype=torch.float32, workers=ALONE, log_samples=True
    )
    lm = HFLM(str(decoder), tokenizer=tokenizer, dtype="float32", device="cpu", batch_size=8)
    theirs = simple_evaluate(
        lm, tasks=[str(path)], limit=8, num_fewshot=1, apply_chat_template=True, fewshot_as_multiturn=True,
        task_manager=TaskManager(include_defaults=False),
    )["samples"]["word_side"]  # fmt: skip
    assert [each["resps"] for each in ours.samples["word_side"]] == [each["resps"] for each in theirs]
    assert ours.samples["word_side"][0]["arguments"][0][0].count("<user>") == 2


def test_a_chat_template_that_is_not_there_is_refused(decoder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(decoder)
    check_chat_template(tokenizer, SETTINGS, {})
    settings = of(apply_chat_template=True)
    with pytest.raises(HarnessError, match=rf"tokenizer of {decoder} has no chat template; set it to false, or name"):
        check_chat_template(tokenizer, settings, {})
    tokenizer.chat_template = "{{ raise_exception('System role not supported') if messages[0].role == 'system' }}"
    check_chat_template(tokenizer, settings, {})
    with pytest.raises(HarnessError, match=r"takes no system's turn \(System role not supported\); remove it"):
        check_chat_template(tokenizer, replace(settings, system_instruction="Be brief."), {})


@needs_harness
def test_generated_answers_and_a_named_filter(decoder: Path, folder: Path) -> None:
    figures = measure(decoder, of(folder / "first_word.yaml", limit=0.5))
    assert figures == {"harness/first_word/exact_match,letters": Figure(0.0, 0.0, 12)}


@needs_harness
def test_autocast_is_that_of_the_training(decoder: Path, folder: Path) -> None:
    """bfloat16 by autocast over float32 weights is the harness's mixed precision, and not float32."""
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    path = folder / "all_text.yaml"
    lm = HFLM(str(decoder), dtype="float32", mixed_precision_dtype="bfloat16", device="cpu", batch_size=8)
    theirs = simple_evaluate(lm, tasks=[str(path)])["results"]["all_text"]["bits_per_byte,none"]
    ours = measure(decoder, of(path), dtype=torch.bfloat16)["harness/all_text/bits_per_byte"].value
    assert ours == theirs
    assert ours != measure(decoder, of(path))["harness/all_text/bits_per_byte"].value


@needs_harness
def test_everything_is_left_as_it_was(decoder: Path, folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(decoder).train()
    model.lm_head.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    measure(decoder, of(folder / "word_side.yaml", limit=4), model=model)
    assert model.training
    assert not model.lm_head.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])


def with_scores(
    decoder: Path, settings: HarnessSettings, workers: Workers
) -> tuple[dict[str, Figure], DocumentScores | None]:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(decoder), AutoTokenizer.from_pretrained(decoder)
    found = evaluate_harness(
        model, tokenizer, load_tasks(settings), settings, dtype=torch.float32, workers=workers, log_samples=True
    )
    accuracy = found.figures["harness/word_side/acc"].value
    return found.figures, document_scores(found.samples.get("word_side", ()), "acc", accuracy)


def _worker(rank: int, decoder: Path, settings: HarnessSettings, rendezvous: str, found: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    found[rank] = with_scores(decoder, settings, Workers(rank, 2, torch.device("cpu")))
    dist.destroy_process_group()


@needs_harness
def test_two_workers_share_the_requests(decoder: Path, folder: Path, tmp_path: Path) -> None:
    """An odd number of documents, so that one worker has more; both end with the figures of one."""
    settings = of(folder / "word_side.yaml", folder / "first_word.yaml", limit=7)
    context = mp.get_context("spawn")
    with context.Manager() as manager:
        found = manager.dict()
        arguments = (decoder, settings, str(tmp_path / "rendezvous"), found)
        processes = [context.Process(target=_worker, args=(rank, *arguments)) for rank in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
            assert process.exitcode == 0
        shared = dict(found)
    figures, scores = with_scores(decoder, settings, ALONE)
    assert scores is not None
    assert len(scores.scores) == 7
    assert shared == {0: (figures, scores), 1: (figures, None)}  # document by document, rank 0 alone


@needs_harness
def test_a_folder_means_its_groups_and_the_tasks_beside_them(decoder: Path, folder: Path) -> None:
    (folder / "group.yaml").write_text(GROUP)
    tasks = load_tasks(of(folder))
    assert sorted(tasks["tasks"]) == ["all_text", "first_word", "word_side"]
    assert sorted(tasks["groups"]) == ["words"]
    assert tasks["group_map"] == {"words": ["word_side", "first_word"]}
    figures = measure(decoder, of(folder, limit=4))
    assert figures["harness/words/acc"].value == figures["harness/word_side/acc"].value


@needs_harness
@pytest.mark.parametrize("name", ["humaneval", "humaneval_infilling"])
def test_code_of_the_model_s_is_refused_before_anything_is_loaded(name: str) -> None:
    """By name, and as a member of a group; offline, nothing of them can be fetched."""
    with pytest.raises(HarnessError, match=r"runs code that the model writes: allow it by unsafe_code"):
        load_tasks(replace(SETTINGS, names=(name,)))


@needs_harness
def test_an_unknown_name_is_refused_with_the_near_ones() -> None:
    with pytest.raises(HarnessError, match=r"lm-eval has no task 'arc_eazy'; near it: .*\barc_easy\b"):
        load_tasks(replace(SETTINGS, names=("arc_eazy",)))


@needs_harness
@pytest.mark.parametrize(
    ("text", "changes", "message"),
    [
        (GROUP, {}, "is a group's file; give the folder that holds it and its tasks"),
        ("task: [unclosed", {}, "cannot load .*x.yaml': ParserError"),
        ("dataset_path: json", {}, "cannot load .*x.yaml': ValueError: Unknown config shape"),
        ("WORD\nunsafe_code: true", {}, "'word_side' runs code that the model writes: allow it by unsafe_code"),
        ("WORD\nnum_fewshot: 0", {"num_fewshot": 2}, "num_fewshot 2 has no effect on it"),
    ],
)
def test_files_that_are_refused(folder: Path, text: str, changes: dict[str, Any], message: str) -> None:
    path = folder.parent / "x.yaml"
    path.write_text(text.replace("WORD", (folder / "word_side.yaml").read_text()))
    with pytest.raises(HarnessError, match=message):
        load_tasks(of(path, **changes))


@needs_harness
def test_unsafe_code_by_explicit_wish(folder: Path) -> None:
    path = folder / "word_side.yaml"
    path.write_text(path.read_text() + "unsafe_code: true\n")
    assert list(load_tasks(of(path, unsafe_code=True))["tasks"]) == ["word_side"]


@needs_harness
def test_what_cannot_be_loaded_or_comes_twice(folder: Path, tmp_path: Path) -> None:
    path = folder / "word_side.yaml"
    copy = tmp_path / "copy.yaml"
    copy.write_text(path.read_text())
    with pytest.raises(HarnessError, match="task 'word_side' comes twice"):
        load_tasks(of(path, copy))
    with pytest.raises(HarnessError, match=r"copy.txt is no task file: its name must end in .yaml"):
        load_tasks(of(copy.rename(tmp_path / "copy.txt")))
    (tmp_path / "tasks.json").unlink()
    with pytest.raises(HarnessError, match=r"cannot load '.*word_side.yaml': FileNotFoundError"):
        load_tasks(of(path))


@needs_harness
def test_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(HarnessError, match="none holds no task file"):
        load_tasks(of(tmp_path / "none"))


@needs_harness
def test_every_worker_needs_a_document(folder: Path) -> None:
    settings = of(folder / "word_side.yaml", limit=3)
    check_share(load_tasks(settings), settings, 3)
    with pytest.raises(HarnessError, match="'word_side' has 3 documents for 4 workers"):
        check_share(load_tasks(settings), settings, 4)


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)  # as if it were not installed, where it is
    with pytest.raises(HarnessError, match=r'need lm-eval: pip install "prunedlora\[harness\]"'):
        load_tasks(of(tmp_path / "x.yaml"))


@needs_harness
def test_too_little_memory_halves_the_harness_s_batches(
    decoder: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Likelihoods and generated answers; what comes out is what batches of that size give."""
    from prunedlora.training.harness_model import HarnessModel

    tasks = [folder / "word_side.yaml", folder / "first_word.yaml"]
    expected = measure(decoder, of(*tasks, limit=8, batch_size=2))
    sizes: list[int] = []

    def limited(original: Any, most: int) -> Any:
        def call(self: Any, *inputs: Any, **named: Any) -> Any:
            sizes.append(len([*inputs, *named.values()][0]))
            if sizes[-1] > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return original(self, *inputs, **named)

        return call

    originals = HarnessModel._model_call, HarnessModel._model_generate
    for most in (2, 0):
        monkeypatch.setattr(HarnessModel, "_model_call", limited(originals[0], most))
        monkeypatch.setattr(HarnessModel, "_model_generate", limited(originals[1], most))
        sizes.clear()
        if most == 2:
            assert measure(decoder, of(*tasks, limit=8)) == expected
            assert max(sizes) == 8
        else:
            with pytest.raises(torch.OutOfMemoryError):
                measure(decoder, of(*tasks, limit=8))
            assert sizes == [8, 4, 2, 1]


class _Second(Workers):
    """Rank 1 of two, which hears from rank 0 what came out."""

    def from_first(self, value: Any) -> Any:
        assert value is None
        return {}, {"harness/word_side/acc": math.nan}


@needs_harness
def test_a_figure_that_is_not_finite_is_left_out_on_all_workers_alike(
    decoder: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None is left behind waiting for figures."""
    from lm_eval import evaluator

    monkeypatch.setattr(evaluator, "evaluate", lambda *_, **__: None)
    assert measure(decoder, of(folder / "word_side.yaml"), _Second(1, 2, torch.device("cpu"))) == {}
