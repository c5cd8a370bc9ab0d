"""Servers of small random models, and what tests of pages share; not in conftest.py, of which there are several."""

import threading
from dataclasses import dataclass, field

import httpx
import torch

from crawl2chat.generate import Engine
from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.serve.app.context import AppContext
from crawl2chat.serve.model_pool import AvailableModel, ModelPool
from crawl2chat.serve.server import Server, bind, run

VIEWPORTS = {"desktop": {"width": 1280, "height": 800}, "phone": {"width": 390, "height": 844}}
STAGES = ("reinforce", "pretrain", "sft", "honesty", "prefer")  # the default first
CONTEXT = 256


def random_model(vocab_size: int, seed: int) -> Transformer:
    """Weights are large enough for answers to differ."""
    config = ModelConfig(vocab_size, 32, 64, 3, 4, 2, 16, max_position_embeddings=CONTEXT)
    model = Transformer(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return model.eval()


def offers(tokenizer, models=STAGES, **engine) -> list[AvailableModel]:
    """Random models under the names of stages."""
    made = []
    for seed, stage in enumerate(models):
        model = random_model(tokenizer.vocab_size, seed)

        def read(model=model) -> Engine:
            return Engine(model, tokenizer, **{"max_batch": 8, **engine})

        n = model.n_parameters()
        made.append(AvailableModel(f"tiny-{stage}", stage, 1_700_000_000, model.config, CONTEXT, n, read))
    return made


@dataclass
class Served:
    """A server in a thread of this process, on a port of its own."""

    context: AppContext
    server: Server
    thread: threading.Thread = field(init=False)
    url: str = ""

    def __post_init__(self) -> None:
        place = bind("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{place.getsockname()[1]}"
        started = threading.Event()
        self.server.listening = started.set
        self.thread = threading.Thread(target=run, args=(self.server, place))
        self.thread.start()
        assert started.wait(60)
        self.http = httpx.Client(base_url=self.url, timeout=300)

    @property
    def pool(self) -> ModelPool:
        return self.context.pool

    def stop(self) -> None:
        self.http.close()
        self.server.grace = 0
        self.server._loop.call_soon_threadsafe(self.server.close)
        self.thread.join(20)
        assert not self.thread.is_alive()


def overflow(page) -> int:
    """By how many pixels a page is wider than the window."""
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
