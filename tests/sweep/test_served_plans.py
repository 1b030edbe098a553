"""What a sweep's servers make of its plans: bounds that hold for whatever is left, and servers that serve nothing."""

import random
from pathlib import Path
from typing import Any

import pytest

from prunedlora.config.load import parse_sweep
from prunedlora.planned_size import PLANNED_AXES, PlannedSize
from prunedlora.results.analysis.served_size import served_sizes
from prunedlora.results.record import Candidate, TrialRecord
from prunedlora.servers.adapter_shape import AdapterShape, Base, Kind
from prunedlora.servers.known import SERVERS
from prunedlora.servers.treatment import Refused
from prunedlora.sweep.served_plans import ServeOnError, Trained, check_servers, served_plan, served_planner
from prunedlora.trial.planned_sizes import layers_key
from tests.decoder_sizes import WIDTHS, candidate_fields, names_of, random_ranks
from tests.inventions import invented_record, sweep_tree

MODULES = ("*.q_proj", "*.v_proj", "*.o_proj")
NAMES = [name for end in MODULES for name in names_of(end)]
TRIAL = parse_sweep(sweep_tree(Path("unused")), "test").trial


def shape(**changes: Any) -> AdapterShape:
    fields: dict[str, Any] = {"kind": Kind.TRAINED, "ranks": dict.fromkeys(NAMES, 1), "widths": WIDTHS}
    return AdapterShape(**(fields | {"model_type": "llama"} | changes))


def recorded(ranks: dict[str, int]) -> tuple[TrialRecord, Candidate]:
    record = invented_record("a", sweep_tree(Path("unused"))["trial"])
    one = record.candidates[0].model_copy(update=candidate_fields(ranks))
    model = record.environment.model_copy(update={"model": {"model_type": "llama"}})
    return record.model_copy(update={"candidates": (one,), "layer_widths": WIDTHS, "environment": model}), one


def plan(low: Candidate, high: Candidate) -> PlannedSize:
    bounds = {axis: (float(getattr(low, axis)), float(getattr(high, axis))) for axis in PLANNED_AXES}
    return PlannedSize(1.0, bounds)


def test_bounds_hold_for_whatever_ranks_are_left() -> None:
    """Of all layers of the plan, some of them gone; and are exact where all have one rank for certain."""
    rng, exact = random.Random(0), 0
    for _ in range(40):
        ranks = {f"{block}.{end[2:]}": 0 for end in MODULES for block in range(3)}
        ranks |= {name: rank for name, rank in random_ranks(rng, 12).items() if name in ranks}
        if not any(ranks.values()):
            continue
        is_certain = rng.random() < 0.4
        if is_certain:
            ranks = dict.fromkeys(ranks, rng.randint(1, 20))
        record, one = recorded(ranks)
        high = one if is_certain else recorded(dict.fromkeys(ranks, one.max_rank + rng.randint(0, 4)))[1]
        for names in ([name] for name in SERVERS):
            sizes = served_sizes(record, one, names)
            if isinstance(sizes, Refused):
                continue
            found = served_plan(plan(one, high), shape(), names)
            for axis in PLANNED_AXES:
                low, most = found.bounds[axis]
                assert low <= sizes[axis] <= most
                assert not is_certain or low == most
            exact += is_certain
    assert exact > 20


def test_a_plan_of_what_is_not_known_stays_as_it_is() -> None:
    one = plan(recorded({"*.q_proj": 2})[1], recorded({"*.q_proj": 9})[1])
    assert served_plan(one, shape(widths=None), ["sglang"]) == one
    asked = {layers_key(TRIAL): shape()}
    planner = served_planner(lambda config: [one], asked, ["sglang"])
    assert planner(TRIAL)[0].bounds["adapter_params"][1] == 9 * 3 * (16 + 12 + 12 + 16)
    assert served_planner(lambda config: [one], {}, ["sglang"])(TRIAL) == [one]
    assert served_planner(lambda config: [one], asked, ["vllm"])(TRIAL) == [one]
    same = lambda config: [one]  # noqa: E731
    assert served_planner(same, asked, []) is same


def test_a_server_that_serves_nothing_ends_the_sweep_before_it_starts() -> None:
    def check(of: AdapterShape, *serve_on: str, rank: int = 4, others: tuple[AdapterShape, ...] = ()) -> list[str]:
        ranks = PlannedSize(1.0, dict.fromkeys(PLANNED_AXES, (float(rank), float(rank))))
        trained = [Trained("", TRIAL, of), *(Trained("baselines[0]", TRIAL, each) for each in others)]
        return check_servers(serve_on, trained, lambda config: [ranks])

    assert check(shape(), *SERVERS) == []
    head = shape(head_params=64, head_names=("pooler",))
    with pytest.raises(ServeOnError, match=r"^serve_on 'llama.cpp': llama.cpp .* takes no head; so it would serve no "):
        check(head, "llama.cpp")
    with pytest.raises(ServeOnError, match=r"rank 512, and the adapter has 600; .* Leave 'vllm' out of serve_on: it "):
        check(shape(), "peft", "vllm", rank=600)
    with pytest.raises(ServeOnError, match=r"into quantised weights nothing is merged exactly: take the original mode"):
        check(shape(base=Base.QUANTIZED), "mlx")
    with pytest.raises(ServeOnError, match="into GGUF weights"):
        check(shape(base=Base.GGUF), "mlx")
    (line,) = check(shape(), "llama.cpp", others=(head,))
    assert line.startswith("serve_on 'llama.cpp': ")
    assert line.endswith("takes no head (baselines[0]): no adapter of such trainings is recommended")
