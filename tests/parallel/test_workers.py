"""Calls in processes of their own: order, failures, hanging calls and processes that die."""

import os
import resource
import signal
import time
from itertools import count, islice
from pathlib import Path

from crawl2chat.parallel.workers import Died, Failed, Result, TimedOut, WorkerPool, map_in_order

# At module level: a spawned process imports this file to find them.


def work(item: str) -> str:
    """`wait 0.5`, `fail`, `die`, `die-once FILE`, `spin`, or anything else, which is returned."""
    what, _, rest = item.partition(" ")
    if what == "wait":
        time.sleep(float(rest))
    elif what == "fail":
        raise ValueError("no")
    elif what == "die" or (what == "die-once" and not Path(rest).exists()):
        Path(rest or os.devnull).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "spin":
        resource.setrlimit(resource.RLIMIT_CPU, (1, resource.RLIM_INFINITY))
        while True:
            pass
    return item


def outcomes(items: list[str], workers: int = 2, timeout: float = 60) -> list[type]:
    return [type(found) for found in map_in_order(work, items, workers, timeout=timeout, max_ahead=10)]


def test_results_come_in_the_order_of_the_items():
    items = ["wait 0.5", "b", "c", "wait 0.2", "e"]
    assert [found.value for found in map_in_order(work, items, 2, timeout=60, max_ahead=10)] == items


def test_a_call_that_fails_hangs_or_dies_costs_itself_alone(tmp_path):
    once = f"die-once {tmp_path / 'died'}"
    found = outcomes(["a", "fail", "die", "wait 600", once, "spin", "b"], timeout=5)
    assert found == [Result, Failed, Died, TimedOut, Result, TimedOut, Result]


def test_no_more_items_are_taken_than_may_wait_for_an_earlier_one():
    taken = []

    def items():
        for i in count():
            taken.append(i)
            yield "wait 2" if i == 0 else str(i)

    first = list(islice(map_in_order(work, items(), 2, timeout=60, max_ahead=3), 1))
    assert [found.value for found in first] == ["wait 2"]
    assert len(taken) <= 1 + 3 + 2


def test_no_items_are_no_outcomes():
    assert outcomes([]) == []


def test_an_outcome_names_item_key_and_how_its_process_ended():
    pool = WorkerPool(work, 1)
    try:
        pool.submit("die", key=7)
        (died,) = pool.wait()
        assert isinstance(died, Died)
        assert (died.item, died.key, died.exit_code) == ("die", 7, -signal.SIGKILL)
        pool.submit("a")  # by another process
        assert pool.wait() == [Result(None, "a", "a")]
    finally:
        pool.stop()
