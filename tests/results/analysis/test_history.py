"""The hypervolume's history ends where the sweep ends, and ranks stand where their modules are."""

import pytest

from prunedlora.results.analysis.history import hypervolume_history
from prunedlora.results.analysis.rank_map import rank_map
from prunedlora.results.analysis.summary import summarize
from prunedlora.results.ask import Ask


def asked(store, *keys):
    for number, key in enumerate(keys):
        store.write_ask(Ask(number=number, key=key, kind="search", params={}, distributions={}, system_attrs={}))


def test_it_grows_in_the_order_of_the_asks_up_to_the_sweep_s(fill, record, candidate, failed):
    records = [
        record("a", candidate(0.5, 100), train_seconds=3.0),
        record("b", candidate(0.4, 200), train_seconds=4.0),  # dominated
        failed("c", candidate(0.7, 90)),
        record("d", candidate(0.9, 400), candidate(0.6, 50, step=20), train_seconds=5.0),
    ]
    store = fill(*records)
    asked(store, "d", "b", "c", "a")
    summary = summarize(store)
    stages = hypervolume_history(summary)
    assert [stage.num_trials for stage in stages] == [1, 2, 3, 4]
    assert [stage.device_seconds for stage in stages] == [5.0, 9.0, 11.0, 14.0]
    volumes = [stage.hypervolume for stage in stages]
    assert volumes[0] == volumes[1] < volumes[2] == volumes[3]
    assert volumes[0] > 0
    assert volumes[-1] == pytest.approx(summary.hypervolume)


def test_an_empty_store_has_no_history(fill):
    assert hypervolume_history(summarize(fill())) == []


def test_ranks_by_block_and_kind():
    ranks = {
        "model.layers.0.self_attn.q_proj": 3,
        "model.layers.0.mlp.up_proj": 0,
        "model.layers.10.self_attn.q_proj": 5,
        "model.layers.2.self_attn.q_proj": 4,
        "score": 1,
    }
    blocks, kinds, table = rank_map(ranks)
    assert blocks == ["0", "2", "10", "outside"]
    assert kinds == ["self_attn.q_proj", "mlp.up_proj", "score"]
    assert table == [[3, 0, None], [4, None, None], [5, None, None], [None, None, 1]]
