import threading

import pytest

from oddsight.runtime.parallel import prompt_map


def scored(outcomes):
    return [outcome for outcome in outcomes if outcome is not None]


@pytest.mark.parametrize("workers", [1, 3])
def test_outcomes_come_in_the_order_of_the_items(workers):
    assert scored(prompt_map(lambda n: n * n, range(1, 50), workers=workers)) == [n * n for n in range(1, 50)]


def test_an_outcome_does_not_wait_for_the_next_item():
    go = threading.Event()

    def items():
        yield 1
        assert go.wait(120)
        yield 2

    outcomes = prompt_map(lambda n: n, items(), workers=2, idle=0.01)
    assert next(outcome for outcome in outcomes if outcome is not None) == 1
    assert next(outcomes) is None  # and while none come it says so
    go.set()
    assert scored(outcomes) == [2]


def test_no_more_items_than_workers_are_in_flight():
    taken, done = [], []

    def items():
        for number in range(20):
            taken.append(number)
            assert len(taken) - len(done) <= 3  # 2 in flight, and the one that is being taken
            yield number

    for outcome in scored_one_by_one(prompt_map(lambda n: n, items(), workers=2)):
        done.append(outcome)
    assert done == list(range(20))


def scored_one_by_one(outcomes):
    return (outcome for outcome in outcomes if outcome is not None)


def test_failures_of_job_and_items_are_raised():
    def fail(number):
        raise ValueError(f"job {number}")

    def items():
        yield 1
        raise ValueError("items")

    with pytest.raises(ValueError, match="job 1"):
        scored(prompt_map(fail, [1], workers=2))
    with pytest.raises(ValueError, match="items"):
        scored(prompt_map(lambda n: n, items(), workers=2))


def test_stopping_early_leaves_no_thread_at_work():
    before = set(threading.enumerate())
    outcomes = prompt_map(lambda n: n + 1, range(1000), workers=2)
    assert next(outcome for outcome in outcomes if outcome is not None) == 1
    ours = set(threading.enumerate()) - before
    outcomes.close()
    for thread in ours:
        thread.join(60)
    assert not any(thread.is_alive() for thread in ours)
