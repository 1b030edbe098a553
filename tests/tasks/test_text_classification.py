from collections.abc import Callable

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from torch.nn import functional
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.example import Example
from prunedlora.tasks.outcomes import figures
from prunedlora.tasks.sources import Source
from prunedlora.tasks.splits import Splits, load_splits
from prunedlora.tasks.text_classification import TextClassification, class_order

PAIRS = [("a short text", "wife"), ("one " * 20, "aunt"), ("another one", "son"), ("and one", "son")]


@pytest.fixture(scope="module")
def families() -> Splits:
    def source(seed: int, num_examples: int) -> Source:
        options = {"min_family_size": 3, "max_family_size": 4}
        return Source(
            name="reasoning_gym:family_relationships",
            prompt="{question}",
            target="{answer}",
            options=options,
            seed=seed,
            num_examples=num_examples,
        )

    return load_splits(source(0, 100), source(1000, 24), source(2000, 24), None, None, 0)


def test_a_pretrained_encoder_gets_the_heads_and_losses_of_transformers(
    families: Splits, minilm: str, minilm_tokenizer: PreTrainedTokenizerBase
) -> None:
    task = TextClassification.from_splits(families, minilm_tokenizer, metric="accuracy", model_limit=512)
    assert task.labels == tuple(sorted({example.target for example in families.train}))
    assert len(task.labels) == 7
    model = AutoModelForSequenceClassification.from_pretrained(minilm, **task.model_settings).eval()
    assert model.config.num_labels == 7
    assert model.config.id2label[3] == task.labels[3]
    features = task.encode(families.validation)
    outcomes = task.evaluate(model, features, 10, "cpu")
    reference = minilm_tokenizer([e.prompt for e in families.validation], padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(**reference).logits
    classes = torch.tensor([task.labels.index(example.target) for example in families.validation])
    expected = functional.cross_entropy(logits, classes, reduction="none")
    assert outcomes.loss_sums == pytest.approx(expected.tolist(), abs=1e-5)
    assert outcomes.scores["accuracy"] == (logits.argmax(-1) == classes).long().tolist()
    assert figures(outcomes)["accuracy"].num_examples == len(families.validation)


def test_a_few_steps_on_the_head_lower_the_loss(
    families: Splits, minilm: str, minilm_tokenizer: PreTrainedTokenizerBase
) -> None:
    task = TextClassification.from_splits(families, minilm_tokenizer, metric="accuracy")
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(minilm, **task.model_settings).eval()
    model.base_model.requires_grad_(False)
    batch = task.collate(task.encode(families.train[:16]))
    optimizer = torch.optim.AdamW(model.classifier.parameters(), lr=1e-2)
    losses = []
    for _ in range(5):
        loss, count = task.loss(model, batch)
        assert count == 16
        optimizer.zero_grad()
        (loss / count).backward()
        optimizer.step()
        losses.append(float(loss) / count)
    assert losses[-1] < losses[0]


def test_texts_over_the_limit_are_cut_and_counted(
    minilm_tokenizer: PreTrainedTokenizerBase, make_splits: Callable[..., Splits]
) -> None:
    splits = make_splits(PAIRS)
    task = TextClassification.from_splits(splits, minilm_tokenizer, metric="loss", max_length=8)
    features = task.encode(splits.train)
    assert [feature.shortened for feature in features] == [False, True, False, False]
    expected = minilm_tokenizer(PAIRS[1][0], truncation=True, max_length=8)["input_ids"]
    assert features[1].input_ids == expected
    assert len(expected) == 8
    assert [feature.targets for feature in features] == [[2], [0], [1], [1]]


def test_labels_unseen_in_training(
    minilm_tokenizer: PreTrainedTokenizerBase, make_splits: Callable[..., Splits]
) -> None:
    for split, splits in (
        ("validation", make_splits(PAIRS, [("x", "uncle"), ("y", "niece")])),
        ("test", make_splits(PAIRS, None, [("x", "uncle"), ("y", "niece")])),
    ):
        with pytest.raises(DataError, match=f"{split} has labels that no training example has: 'niece', 'uncle'"):
            TextClassification.from_splits(splits, minilm_tokenizer, metric="accuracy")
    task = TextClassification.from_splits(make_splits(PAIRS), minilm_tokenizer, metric="accuracy")
    with pytest.raises(DataError, match="labels that no training example has: 'uncle'"):
        task.encode([Example("x", "uncle")])


def test_labels_that_are_told_may_be_more_than_the_data_have(
    minilm_tokenizer: PreTrainedTokenizerBase, make_splits: Callable[..., Splits]
) -> None:
    """And no fewer."""
    found = sorted({target for _, target in PAIRS})
    splits = make_splits(PAIRS, [("x", "uncle")])
    task = TextClassification.from_splits(splits, minilm_tokenizer, metric="loss", labels=["uncle", *found])
    assert task.labels == ("uncle", *found)
    assert task.model_settings["num_labels"] == len(found) + 1
    assert [feature.targets for feature in task.encode(splits.validation)] == [[0]]
    told = "that are none of those that data.labels or the adapter tells: "
    with pytest.raises(DataError, match=f"validation has labels {told}'uncle'"):
        TextClassification.from_splits(splits, minilm_tokenizer, metric="loss", labels=found)
    with pytest.raises(DataError, match=f"the training examples have labels {told}'{found[0]}'"):
        TextClassification.from_splits(splits, minilm_tokenizer, metric="loss", labels=["uncle", *found[1:]])


def test_one_label_is_no_task(minilm_tokenizer: PreTrainedTokenizerBase, make_splits: Callable[..., Splits]) -> None:
    with pytest.raises(DataError, match="the training examples have one label only: 'son'"):
        TextClassification.from_splits(make_splits(PAIRS[2:]), minilm_tokenizer, metric="accuracy")


def test_no_room_for_text(minilm_tokenizer: PreTrainedTokenizerBase, make_splits: Callable[..., Splits]) -> None:
    with pytest.raises(DataError, match="max_length 2 leaves no room for text beside 2 special tokens"):
        TextClassification.from_splits(make_splits(PAIRS), minilm_tokenizer, metric="accuracy", max_length=2)


def test_answers_are_not_generated(
    minilm_tokenizer: PreTrainedTokenizerBase, make_splits: Callable[..., Splits]
) -> None:
    with pytest.raises(DataError, match="max_new_tokens has no effect on text_classification; remove it"):
        TextClassification.from_splits(make_splits(PAIRS), minilm_tokenizer, metric="accuracy", max_new_tokens=3)
    with pytest.raises(DataError, match="stop has no effect on text_classification; remove it"):
        TextClassification.from_splits(make_splits(PAIRS), minilm_tokenizer, metric="accuracy", stop=["x"])


def test_token_types_that_matter_are_refused(minilm: str, make_splits: Callable[..., Splits]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    special = [("[CLS]", tokenizer.cls_token_id)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A:0 [CLS]:2", special_tokens=special)
    splits = make_splits(PAIRS)
    task = TextClassification.from_splits(splits, tokenizer, metric="accuracy")
    with pytest.raises(DataError, match="gives token types other than 0, which is not supported"):
        task.encode(splits.train)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([str(i) for i in range(11, -1, -1)], [str(i) for i in range(12)]),
        (["1", "01", "-2", "10", "+3", "0.5", ".25", "1e1"], ["-2", ".25", "0.5", "01", "1", "+3", "10", "1e1"]),
        (["2.0", "2", "2.00"], ["2", "2.0", "2.00"]),
        (["10", "9", "n/a"], ["10", "9", "n/a"]),
        (["1.10.0", "1.9.0"], ["1.10.0", "1.9.0"]),
        (["nan", "1"], ["1", "nan"]),
        (["٣", "1"], ["1", "٣"]),
        (["b", "a", "b"], ["a", "b"]),
    ],
)
def test_the_order_of_classes(labels: list[str], expected: list[str]) -> None:
    """Numbers by value, the rest as text; the same whatever the order of the examples."""
    assert class_order(labels) == class_order(reversed(labels)) == expected
