from prunedlora.results.recorded_settings import chosen, flat, method, shown, telling, varying


def test_flat():
    assert flat({"a": {"b": 1, "c": {"d": [2]}}, "e": {}, "f": None}) == {"a.b": 1, "a.c.d": [2], "e": {}, "f": None}


def test_varying_and_chosen(record):
    one = record("a", config={"x": {"rank": 4, "same": 1}, "y": None, "only": 0.000012345})
    two = record("b", config={"x": {"rank": 8, "same": 1}, "y": "cubic"})
    assert varying([one, two]) == ["only", "x.rank", "y"]
    assert varying([one]) == []
    assert chosen(one, varying([one, two])) == {"only": "1.234e-05", "x.rank": "4"}


def test_shown():
    assert [shown(value) for value in ("é", True, 3, 0.5, [1, "é"])] == ["é", "true", "3", "0.5", '[1, "é"]']


def test_method(record):
    assert method(record(config={"adapter": {"method": "lora"}})) == "lora"
    assert method(record(config={})) == "adapter"


def test_telling_leaves_out_what_a_method_lacks(record):
    def trial(key, method, rate, **pruning):
        return record(key, config={"adapter": {"method": method}, "rate": rate, "pruning": pruning or None})

    pruned = [trial("a", "prunedlora", 0.1, basis="raw", damping=damping) for damping in (1, 2)]
    lora = trial("c", "lora", 0.1)
    assert varying([*pruned, lora]) == ["adapter.method", "pruning.basis", "pruning.damping"]
    assert telling([*pruned, lora]) == ["adapter.method", "pruning.damping"]
    assert telling([*pruned, trial("c", "lora", 0.2)]) == ["adapter.method", "pruning.damping", "rate"]
    assert telling([pruned[0], trial("d", "prunedlora", 0.1)]) == ["pruning.basis", "pruning.damping"]
