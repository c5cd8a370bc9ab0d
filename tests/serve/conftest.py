import contextlib
import socket
import threading

import httpx
import openai
import pytest
import torch
from waiting import wait_until

from crawl2chat.generate import Engine
from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.serve.model_pool import AvailableModel, ModelPool
from crawl2chat.serve.server import bind, make_server, run

CONTEXT = 160


def random_engine(tokenizer, *, max_batch=8, context=CONTEXT):
    """A small model whose weights are large enough for its answers to differ, and that seldom ends by itself."""
    model = Transformer(ModelConfig(tokenizer.vocab_size, 32, 64, 2, 4, 2, 16, max_position_embeddings=context))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return Engine(model, tokenizer, max_batch=max_batch)


class Running:
    """A server in a thread of this process, on a port of its own, and clients of it."""

    def __init__(self, engine, stage="import", *, queue=32, threads=None, **options):
        network = engine.model
        available = AvailableModel(
            "tiny", stage, 1_700_000_000, network.config, engine.context, network.n_parameters(), lambda: engine
        )
        pool = ModelPool([available], queue=queue, threads=threads)
        self.model, self.engine = pool.default.model, engine
        self.server = make_server(pool, **options)
        place = bind("127.0.0.1", 0)
        self.port = place.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=run, args=(self.server, place))
        self.thread.start()
        wait_until(lambda: self.server.started)
        self.http = httpx.Client(base_url=self.url, timeout=300)
        self.openai = self.client()

    def client(self, kind=openai.OpenAI, key="none"):
        return kind(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=300)

    @property
    def admission(self):
        return self.server.pool.default.admission

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=300)

    def post(self, path, body):
        return self.http.post(path, json=body)

    def is_idle(self):
        return not self.admission.open and not self.engine.running and not self.engine.waiting

    def stop(self):
        self.http.close()
        self.server.grace = 0
        with contextlib.suppress(RuntimeError):
            self.server._loop.call_soon_threadsafe(self.server.close)
        self.thread.join(20)
        assert not self.thread.is_alive()


@pytest.fixture(scope="session")
def engine(tokenizer):
    return random_engine(tokenizer)


@pytest.fixture(scope="session")
def alone(tokenizer):
    """A second engine with the same weights, for what the server's answers should be."""
    return random_engine(tokenizer)


@pytest.fixture(scope="module")
def server(engine):
    running = Running(engine)
    yield running
    running.stop()


@pytest.fixture
def start(tokenizer):
    """Starts servers of their own, with a new engine each, and stops them after the test."""
    started = []

    def begin(stage="import", *, max_batch=8, context=CONTEXT, **options):
        started.append(Running(random_engine(tokenizer, max_batch=max_batch, context=context), stage, **options))
        return started[-1]

    yield begin
    for running in started:
        running.stop()
