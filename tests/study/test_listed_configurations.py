import pytest

from prunedlora.config.space import Choice, IntRange, LogInt, LogUniform, SpaceEntry, Uniform, Value
from prunedlora.registry import names
from prunedlora.study import listed_configurations
from prunedlora.study.kept_study import propose
from prunedlora.study.listed_configurations import as_values, canonical_params, list_configurations
from prunedlora.study.suggest import fixed

SPACE: dict[str, SpaceEntry] = {
    "pruning.schedule.end": Choice(choice=[0.5, None], when={"pruning.schedule.name": ["cubic"]}),
    "pruning.schedule.name": Choice(choice=["cubic", "one_shot"]),
    "adapter.target_modules": Choice(choice=["all-linear", ["query", "value"]]),
    "training.num_steps": IntRange(int=(10, 30), step=10),
    "adapter.initial_rank": LogInt(log_int=(1, 2)),
    "pruning.criterion": Value(value="magnitude", when={"pruning.schedule.name": ["one_shot"]}),
}


def test_every_configuration_once_conditions_obeyed() -> None:
    listed = list_configurations(SPACE)
    assert listed is not None
    assert len(listed) == len({canonical_params(each) for each in listed}) == (2 + 1) * 2 * 3 * 2
    assert all(("pruning.schedule.end" in each) == (each["pruning.schedule.name"] == "cubic") for each in listed)
    values, distributions = fixed(listed[-1], SPACE)
    assert values["adapter.target_modules"] == ["query", "value"]
    assert values["pruning.criterion"] == "magnitude"
    assert distributions.keys() == listed[-1].keys()
    assert all(as_values(each, SPACE) == fixed(each, SPACE)[0] for each in listed)


@pytest.mark.parametrize("sampler", names("sampler"))
def test_what_a_sampler_proposes_is_listed(sampler: str) -> None:
    listed = {canonical_params(each) for each in list_configurations(SPACE) or ()}
    for seed in range(5):
        _, part = propose(
            [], {}, space=SPACE, objectives={"accuracy": "maximize", "adapter_params": "minimize"}, sampler=sampler,
            seed=seed, num_concurrent=1,
        )  # fmt: skip
        assert canonical_params(part["params"]) in listed


def test_spaces_without_end_or_too_large_are_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    rank = Choice(choice=[4, 8])
    assert list_configurations({"a": rank, "b": Uniform(uniform=(0, 1))}) is None
    assert list_configurations({"a": rank, "b": LogUniform(log_uniform=(0.1, 1))}) is None
    assert list_configurations({"a": IntRange(int=(1, 10_001))}) is None
    assert len(list_configurations({"a": IntRange(int=(1, 10_000))}) or ()) == 10_000
    monkeypatch.setattr(listed_configurations, "MOST_LISTED", 1)
    assert list_configurations({"a": rank}) is None
