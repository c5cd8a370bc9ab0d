"""Many requests of one client do not keep the others waiting."""

import threading

import httpx
import pytest
from waiting import wait_until

from crawl2chat.serve.engine_thread import FairQueue


def test_clients_take_turns_and_so_do_the_calls_of_each():
    queue = FairQueue()
    for item in ("a1x", "a1y", "a1z", "a2x", "a2y", "b1x", "b1y"):
        queue.put(item, client=item[0], call=item[:2])
    queue.remove("a1y", "a", "a1")
    with pytest.raises(ValueError, match="not in"):
        queue.remove("a1y", "a", "a1")
    with pytest.raises(ValueError, match="not in"):
        queue.remove("c", "c", "c1")
    assert len(queue) == 6
    assert [queue.get() for _ in range(6)] == ["a1x", "b1x", "a2x", "b1y", "a1z", "a2y"]
    with pytest.raises(IndexError):
        queue.get()
    assert not queue


def ask(server, address, order, **fields):
    """In a thread, from an address of this machine; the order in which answers come goes into a list."""

    def work():
        with httpx.Client(transport=httpx.HTTPTransport(local_address=address), timeout=300) as client:
            body = {"prompt": [5], "max_tokens": 60, "logit_bias": server.bias, **fields}
            client.post(f"{server.url}/v1/completions", json=body).raise_for_status()
        order.append(address)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_another_clients_request_takes_turns_with_many_calls_of_one(start, tokenizer):
    server = start(max_batch=1, queue=40)
    server.bias = {str(id): -100 for id in tokenizer.stop_ids}
    order, all_are_there, engine = [], threading.Event(), server.admission.thread.engine
    step = engine.step
    engine.step = lambda: all_are_there.wait(30) and step()
    many = [ask(server, "127.0.0.1", order, n=5) for _ in range(4)]
    wait_until(lambda: len(server.admission.open) == 20)
    other = ask(server, "127.0.0.2", order)
    wait_until(lambda: len(server.admission.open) == 21)
    all_are_there.set()
    for thread in (other, *many):
        thread.join(30)
    assert order[0] == "127.0.0.2"
    assert len(order) == 5


def test_one_call_takes_half_of_the_room_at_most(start):
    server = start(max_batch=4, queue=4)
    assert server.post("/v1/completions", {"prompt": "x", "n": 4, "max_tokens": 1}).status_code == 200
    for route, body in (("completions", {"prompt": "x"}), ("chat/completions", {"messages": [
            {"role": "user", "content": "x"}]})):  # fmt: skip
        error = server.post(f"/v1/{route}", body | {"n": 5}).json()["error"]
        assert error["param"] == "n"
        assert "asks for 5 answers (prompts × n); this server takes 4 at most" in error["message"]
