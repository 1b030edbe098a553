import copy
import logging
from collections.abc import Callable

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tokenizers.processors import TemplateProcessing
from torch.nn import functional
from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.generation import Generation
from prunedlora.tasks.sources import Source
from prunedlora.tasks.splits import Splits, load_splits
from prunedlora.training.distributed import Workers
from prunedlora.trial.assets import Assets
from prunedlora.trial.candidates import checked_batch

PAIRS = [
    ("4 - 1 - 7 =", " -4"),
    ("How is the child related to the mother?", " son"),
    ("1 + 1 =", " 2"),
    ("12 = 5 +", " 7"),
]


def by_hand(model: LlamaForCausalLM, prompt: list[int], ends: list[int]) -> list[int]:
    """The most likely token, again and again, 12 times at most."""
    answer: list[int] = []
    while len(answer) < 12 and not set(answer) & set(ends):
        with torch.no_grad():
            answer.append(int(model(input_ids=torch.tensor([prompt + answer])).logits[0, -1].argmax()))
    return answer


@pytest.fixture
def splits(make_splits: Callable[..., Splits]) -> Splits:
    return make_splits(PAIRS)


@pytest.fixture
def task(splits: Splits, byte_tokenizer: PreTrainedTokenizerBase) -> Generation:
    return Generation.from_splits(splits, byte_tokenizer, metric="exact_match", max_new_tokens=12)


def test_only_the_answer_and_its_end_are_targets(
    task: Generation, splits: Splits, byte_tokenizer: PreTrainedTokenizerBase
) -> None:
    assert byte_tokenizer.pad_token_id is None  # so padding is the end-of-text token
    batch = task.collate(task.encode(splits.train))
    end = byte_tokenizer.eos_token_id
    for row, (prompt, answer) in enumerate(PAIRS):
        prompt_ids = byte_tokenizer(prompt)["input_ids"]
        answer_ids = byte_tokenizer(answer)["input_ids"]
        length = len(prompt_ids) + len(answer_ids) + 1
        assert batch["input_ids"][row, :length].tolist() == [*prompt_ids, *answer_ids, end]
        assert batch["labels"][row, : len(prompt_ids)].tolist() == [-100] * len(prompt_ids)
        assert batch["labels"][row, len(prompt_ids) : length].tolist() == [*answer_ids, end]
        assert set(batch["labels"][row, length:].tolist()) <= {-100}
        assert batch["attention_mask"][row].sum() == length


def test_positions_are_those_before_the_targets(task: Generation, make_splits: Callable[..., Splits]) -> None:
    """Of an empty prompt nothing comes before the first token of the answer: it is no target."""
    batch = task.collate(task.encode(make_splits([*PAIRS, ("", "an answer by itself")]).train))
    targets = batch["labels"][:, 1:] != -100
    rows, columns = targets.nonzero(as_tuple=True)
    assert batch["positions"].tolist() == (rows * batch["labels"].shape[1] + columns).tolist()


def test_evaluation_counts_the_targets_that_something_predicts(
    make_splits: Callable[..., Splits], byte_tokenizer: PreTrainedTokenizerBase, llama: LlamaForCausalLM
) -> None:
    splits = make_splits([*PAIRS, ("", "an answer by itself")])
    task = Generation.from_splits(splits, byte_tokenizer, metric="loss")
    features = task.encode(splits.train)
    counts = [min(len(f.target_ids), len(f.input_ids) - 1) for f in features]
    assert counts[-1] == len(features[-1].target_ids) - 1
    assert task.evaluate(llama, features, 2, "cpu").num_targets == counts
    assert sum(counts) == task.loss(llama, task.collate(features))[1]


def test_the_loss_is_that_of_the_answer_read_alone(task: Generation, splits: Splits, llama: LlamaForCausalLM) -> None:
    features = task.encode(splits.train)
    expected = []
    for feature in features:
        logits = llama(input_ids=torch.tensor([feature.input_ids])).logits[0]
        start = len(feature.input_ids) - len(feature.target_ids)
        log_p = functional.log_softmax(logits[start - 1 : -1], dim=-1)
        expected.append(-sum(float(log_p[i, token].detach()) for i, token in enumerate(feature.target_ids)))
    total, count = task.loss(llama, task.collate(features))
    assert float(total.detach()) == pytest.approx(sum(expected), abs=1e-4)
    assert count == sum(len(feature.target_ids) for feature in features)
    assert task.evaluate(llama, features, 2, "cpu").loss_sums == pytest.approx(expected, abs=1e-4)


def test_batched_generation_equals_generation_one_by_one(
    task: Generation, splits: Splits, llama: LlamaForCausalLM, byte_tokenizer: PreTrainedTokenizerBase
) -> None:
    together = task.generate(llama, task.encode(splits.train), "cpu")
    ends = [byte_tokenizer.eos_token_id]
    alone = [by_hand(llama, byte_tokenizer(prompt)["input_ids"], ends) for prompt, _ in PAIRS]
    assert together == byte_tokenizer.batch_decode(alone, skip_special_tokens=True)
    assert len(set(together)) == len(PAIRS)


def test_a_model_that_has_learnt_the_answers_scores_them(
    task: Generation, splits: Splits, llama: LlamaForCausalLM, byte_tokenizer: PreTrainedTokenizerBase
) -> None:
    features = task.encode(splits.train)
    untrained = task.evaluate(llama, features, 4, "cpu")
    assert untrained.scores == {"exact_match": [0, 0, 0, 0]}
    optimizer = torch.optim.AdamW(llama.parameters(), lr=1e-2)
    batch = task.collate(features)
    for _ in range(60):
        loss, count = task.loss(llama, batch)
        optimizer.zero_grad()
        (loss / count).backward()
        optimizer.step()
    trained = task.evaluate(llama, features, 3, "cpu")
    assert trained.scores == {"exact_match": [1, 1, 1, 1]}
    assert sum(trained.loss_sums) < 0.1 * sum(untrained.loss_sums)
    numbers = splits.train[:1] + splits.train[2:]
    only_numbers = Splits(numbers, numbers, numbers, {}, "")
    final = Generation.from_splits(only_numbers, byte_tokenizer, metric="final_number", max_new_tokens=12)
    assert final.evaluate(llama, final.encode(numbers), 3, "cpu").scores == {"final_number": [1, 1, 1]}


def test_a_verification_looks_at_the_beginning_of_long_examples(
    make_splits: Callable[..., Splits], byte_tokenizer: PreTrainedTokenizerBase
) -> None:
    """Logits of every token of a vocabulary are large."""
    splits = make_splits([("word " * 100, "end"), ("short", "end"), *PAIRS])
    task = Generation.from_splits(splits, byte_tokenizer, metric="exact_match", max_new_tokens=12)
    features = task.encode(splits.validation)
    assets = Assets(None, None, task, [], features, [], {}, {})  # type: ignore[arg-type]
    batch = checked_batch(assets, Workers(0, 1, torch.device("cpu")))
    assert set(batch) == {"input_ids", "attention_mask"}
    lengths = [min(64, len(feature.input_ids)) for feature in features[:4]]
    assert batch["attention_mask"].sum(1).tolist() == lengths
    assert batch["input_ids"][0, : lengths[0]].tolist() == features[0].input_ids[:64]
    assert max(len(feature.input_ids) for feature in features[:4]) > 64


def test_the_sources_verifier_scores(llama: LlamaForCausalLM, byte_tokenizer: PreTrainedTokenizerBase) -> None:
    def source(seed: int) -> Source:
        return Source("reasoning_gym:chain_sum", "{question}", "{answer}", seed=seed, num_examples=6)

    splits = load_splits(source(0), source(10), source(20), None, None, 0)
    task = Generation.from_splits(splits, byte_tokenizer, metric="verifier", max_new_tokens=4)
    features = task.encode(splits.validation)
    assert task.evaluate(llama, features, 4, "cpu").scores == {"verifier": [0] * len(features)}
    answers = [example.target for example in splits.validation]
    task.generate = lambda model, chosen, device: [f.example.target for f in chosen]  # type: ignore[method-assign]
    assert answers
    assert task.evaluate(llama, features, 4, "cpu").scores == {"verifier": [1] * len(features)}


def test_the_models_own_way_to_generate_is_put_aside(
    task: Generation, splits: Splits, llama: LlamaForCausalLM, caplog: pytest.LogCaptureFixture
) -> None:
    features = task.encode(splits.train)
    plain = task.generate(llama, features, "cpu")
    sampling = GenerationConfig(
        do_sample=True, temperature=5.0, top_p=0.9, top_k=3, repetition_penalty=3.0, num_beams=2, max_length=15
    )
    llama.generation_config = sampling
    before = copy.deepcopy(sampling.to_dict())
    transformers_logger = logging.getLogger("transformers")
    transformers_logger.addHandler(caplog.handler)
    try:
        assert task.generate(llama, features, "cpu") == plain
    finally:
        transformers_logger.removeHandler(caplog.handler)
    assert caplog.records == []
    assert llama.generation_config is sampling
    assert sampling.to_dict() == before


def test_answers_end_at_any_of_the_models_end_tokens(
    task: Generation, splits: Splits, llama: LlamaForCausalLM, byte_tokenizer: PreTrainedTokenizerBase
) -> None:
    prompt = byte_tokenizer(PAIRS[0][0])["input_ids"]
    end = byte_tokenizer.eos_token_id
    stop = by_hand(llama, prompt, [end])[4]
    llama.generation_config.eos_token_id = [stop]
    (answer,) = task.generate(llama, task.encode(splits.train[:1]), "cpu")
    assert answer == byte_tokenizer.decode(by_hand(llama, prompt, [end, stop]))


def test_answers_end_before_the_first_stop_text(
    task: Generation, splits: Splits, llama: LlamaForCausalLM, byte_tokenizer: PreTrainedTokenizerBase
) -> None:
    """Each row where its own text stands, also in the middle of a token; and generation itself stops there."""
    features = task.encode(splits.train)
    free = task.generate(llama, features, "cpu")
    first, second = free[0][4:6], free[1][2:3]
    settings = {"metric": "exact_match", "max_new_tokens": 12}
    stopping = Generation.from_splits(splits, byte_tokenizer, **settings, stop=[first, second])
    expected = [min(text.split(first)[0], text.split(second)[0], key=len) for text in free]
    assert expected != free
    assert stopping.generate(llama, features, "cpu") == expected
    assert [stopping.generate(llama, [feature], "cpu")[0] for feature in features] == expected
    steps = []
    hook = llama.register_forward_hook(lambda *_: steps.append(1))
    stopping.generate(llama, features[:1], "cpu")
    hook.remove()
    assert len(steps) < 12
    assert sum(len(text) for text in expected[:1]) < len(free[0])


def test_a_stop_text_of_the_prompt_stops_nothing(
    splits: Splits, llama: LlamaForCausalLM, byte_tokenizer: PreTrainedTokenizerBase, task: Generation
) -> None:
    features = task.encode(splits.train)
    free = task.generate(llama, features, "cpu")
    prompts = [feature.example.prompt for feature in features]
    for prompt, answer, feature in zip(prompts, free, features, strict=True):
        border = prompt[-1] + answer[0]
        stop = [text for text in (prompt, border) if text not in answer]
        assert stop
        settings = {"metric": "exact_match", "max_new_tokens": 12}
        stopping = Generation.from_splits(splits, byte_tokenizer, **settings, stop=stop)
        assert stopping.generate(llama, [feature], "cpu") == [answer]


def test_stop_texts_that_cannot_work(splits: Splits, byte_tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(DataError, match="stop is without effect for metric 'loss'"):
        Generation.from_splits(splits, byte_tokenizer, metric="loss", stop=["x"])
    settings = {"metric": "exact_match", "max_new_tokens": 12}
    with pytest.raises(DataError, match=r"evaluation\.stop '\u65e5' cannot be written by this tokenizer: .*not in the"):
        Generation.from_splits(splits, byte_tokenizer, **settings, stop=["x", "\u65e5"])
    with pytest.raises(DataError, match=r"a target of validation has one of them inside, .* cut to ' '"):
        Generation.from_splits(splits, byte_tokenizer, **settings, stop=["son"])


def test_an_adapted_model_generates_with_its_adapter(task: Generation, splits: Splits, llama: LlamaForCausalLM) -> None:
    features = task.encode(splits.train)
    plain = task.generate(llama, features, "cpu")
    adapted = get_peft_model(llama, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    assert task.generate(adapted, features, "cpu") == plain
    torch.manual_seed(0)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    assert task.generate(adapted, features, "cpu") != plain


def test_a_loss_metric_generates_nothing(
    splits: Splits, byte_tokenizer: PreTrainedTokenizerBase, llama: LlamaForCausalLM
) -> None:
    task = Generation.from_splits(splits, byte_tokenizer, metric="loss")
    assert task.evaluate(llama, task.encode(splits.train), 2, "cpu").scores == {}
    assert task.labels is None
    assert task.model_settings == {}


def test_a_long_prompt_loses_its_beginning_and_is_counted(
    splits: Splits, byte_tokenizer: PreTrainedTokenizerBase
) -> None:
    whole = Generation.from_splits(splits, byte_tokenizer, metric="loss").encode(splits.train)
    limit = len(whole[0].input_ids)
    cut = Generation.from_splits(splits, byte_tokenizer, metric="loss", max_length=limit).encode(splits.train)
    assert [f.shortened for f in cut] == [len(f.input_ids) > limit for f in whole]
    assert any(f.shortened for f in cut)
    assert [f.input_ids for f in cut] == [f.input_ids[-limit:] for f in whole]
    assert [f.target_ids for f in cut] == [f.target_ids for f in whole]


def test_prompts_leave_room_for_what_is_generated(splits: Splits, byte_tokenizer: PreTrainedTokenizerBase) -> None:
    task = Generation.from_splits(splits, byte_tokenizer, metric="exact_match", max_length=20, max_new_tokens=15)
    for feature in task.encode(splits.train):
        assert len(feature.input_ids) - len(feature.target_ids) <= 5


def test_the_beginning_of_text_is_there_if_the_tokenizer_puts_it(
    splits: Splits, byte_tokenizer: PreTrainedTokenizerBase
) -> None:
    assert isinstance(byte_tokenizer, PreTrainedTokenizerFast)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=copy.deepcopy(byte_tokenizer.backend_tokenizer), eos_token="<end>", bos_token="<begin>"
    )
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    special = [("<begin>", begin), ("<end>", end)]
    without = Generation.from_splits(splits, tokenizer, metric="loss")
    assert all(begin not in feature.input_ids for feature in without.encode(splits.train))
    assert without.facts == {"begins_with": None}
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<begin> $A <end>", special_tokens=special)
    task = Generation.from_splits(splits, tokenizer, metric="loss", max_length=10)
    assert task.facts == {"begins_with": "<begin>"}
    for feature in task.encode(splits.train):
        assert feature.input_ids[0] == begin
        assert feature.input_ids.count(end) == 1
        assert len(feature.input_ids) <= 10


def test_an_answer_that_does_not_fit_loses_its_end(splits: Splits, byte_tokenizer: PreTrainedTokenizerBase) -> None:
    """One such example must not end a sweep; without its end-of-text token the model is not taught to stop there."""
    whole = Generation.from_splits(splits, byte_tokenizer, metric="loss").encode(splits.train)
    cut = Generation.from_splits(splits, byte_tokenizer, metric="loss", max_length=3).encode(splits.train)
    for feature, full in zip(cut, whole, strict=True):
        if len(full.target_ids) > 2:
            assert feature.shortened
            assert feature.target_ids == full.target_ids[:2]
        assert len(feature.input_ids) <= 3
        assert len(feature.input_ids) > len(feature.target_ids)
    assert any(feature.shortened for feature in cut)


def test_settings_that_cannot_work(
    splits: Splits, byte_tokenizer: PreTrainedTokenizerBase, minilm_tokenizer: PreTrainedTokenizerBase
) -> None:
    with pytest.raises(DataError, match="max_new_tokens is needed for metric 'exact_match'"):
        Generation.from_splits(splits, byte_tokenizer, metric="exact_match")
    with pytest.raises(DataError, match=r"generation has no classes, but the record names some: 'a', 'b'"):
        Generation.from_splits(splits, byte_tokenizer, metric="loss", labels=("a", "b"))
    with pytest.raises(DataError, match="max_new_tokens is without effect for metric 'loss'"):
        Generation.from_splits(splits, byte_tokenizer, metric="loss", max_new_tokens=4)
    with pytest.raises(DataError, match="max_length 30 leaves no room for a prompt beside an answer of 30 tokens"):
        Generation.from_splits(splits, byte_tokenizer, metric="exact_match", max_length=30, max_new_tokens=30)
    with pytest.raises(DataError, match="has no end-of-text token, answers could not end"):
        Generation.from_splits(splits, minilm_tokenizer, metric="loss")
    with pytest.raises(DataError, match="metric 'verifier' needs a source with a verifier"):
        Generation.from_splits(splits, byte_tokenizer, metric="verifier", max_new_tokens=4)
