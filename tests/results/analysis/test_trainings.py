"""Costs count once for each training, and what several candidates of one share is said."""

from prunedlora.results.analysis.summary import summarize
from prunedlora.results.analysis.trainings import cost_of, shared_trainings, sharing_text
from prunedlora.results.record import Decision, Figure, Look


def ladder(record, candidate, key, qualities, **changes):
    rungs = [
        candidate(
            quality, 1000 // (i + 1), (i + 1) * 10, rung=i, train_seconds=5.0 * (i + 1), tokens_seen=100 * (i + 1)
        )
        for i, quality in enumerate(qualities)
    ]
    return record(key, *rungs, train_seconds=20.0, **changes)


def test_a_training_costs_once_however_many_candidates_it_left(record, candidate, failed):
    three = ladder(record, candidate, "a", (0.9, 0.8, 0.7), evaluation_seconds=3.0)
    environment = three.environment.model_copy(update={"num_workers": 2})
    two_workers = ladder(record, candidate, "b", (0.9,), evaluation_seconds=1.0, environment=environment)
    found = cost_of([three, two_workers])
    assert (found.num_trainings, found.device_seconds, found.evaluation_seconds) == (2, 60.0, 5.0)
    assert (found.tokens_seen, found.examples_seen) == (400, 200)
    assert found.text() == (
        "2 trainings, 1.0 min of training over all devices, 200 examples and 400 tokens, 5.0 s of measuring candidates "
        "(8% of the time)"
    )
    # What one does not say is not known of all; one that broke cost too.
    broken = cost_of([three, failed("c")])
    assert (broken.num_trainings, broken.device_seconds, broken.evaluation_seconds) == (2, 22.0, None)
    assert "measuring" not in broken.text()


def test_what_stopped_trainings_saved_is_counted(record, candidate):
    looks = [
        Look(step=step, share=step / 200, loss=Figure(value=1.0, num_examples=2), decision=Decision(stops=stops))
        for step, stops in ((20, False), (40, True))
    ]
    stopped = [
        record(key, candidate(0.5, 100), status="stopped", looks=tuple(looks[:num]))
        for key, num in (("a", 2), ("b", 1))
    ]  # the second one by another rule, of which nothing is known
    assert "; 1 stopped early, which saved 160 steps" in cost_of(stopped).text()
    assert "stopped early" not in cost_of([record("c", candidate(0.5, 100))]).text()


def test_the_front_says_which_of_it_share_a_training(fill, record, candidate):
    store = fill(
        ladder(record, candidate, "a", (0.9, 0.8, 0.7)),
        ladder(record, candidate, "b", (0.95,)),
        record("c", candidate(0.6, 200), candidate(0.5, 100, 20)),
    )
    front = summarize(store).front
    assert [point.name for point in front] == ["c@20", "c@10", "a@30", "a@20", "b@10"]
    assert shared_trainings(front) == [("a", 2), ("c", 2)]
    assert sharing_text(front).startswith("2 of 5 points on the front share training a, 2 of 5 training c. Candidates")
    assert sharing_text(front[1:3]) == ""


def test_more_trainings_than_have_a_name_in_the_sentence_are_counted(fill, record, candidate):
    each = [
        record(f"k{i}", candidate(0.5 + i / 50, 200 + 20 * i), candidate(0.49 + i / 50, 190 + 20 * i, 20))
        for i in range(5)
    ]
    assert "training k2, and 2 more trainings have several. " in sharing_text(summarize(fill(*each)).front)
