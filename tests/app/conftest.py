"""A server with a small run's models in this process, and a browser that looks at its pages."""

import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import torch

from crawl2chat.generate import Engine
from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.serve.app import House
from crawl2chat.serve.prompts import Model
from crawl2chat.serve.server import Server, bind, make_server, run
from crawl2chat.serve.shelf import Offer, Shelf

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--force-prefers-reduced-motion",
)  # fmt: skip
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


def offers(tokenizer, models=STAGES, **engine) -> list[Offer]:
    """Random models under the names of stages."""
    made = []
    for seed, stage in enumerate(models):
        model = random_model(tokenizer.vocab_size, seed)

        def read(model=model, stage=stage) -> Model:
            return Model(Engine(model, tokenizer, **{"max_batch": 8, **engine}), f"tiny-{stage}", stage, 1_700_000_000)

        n = model.n_parameters()
        made.append(Offer(f"tiny-{stage}", stage, 1_700_000_000, model.config, CONTEXT, n, read))
    return made


@dataclass
class Served:
    """A server in a thread of this process, on a port of its own."""

    house: House
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
    def shelf(self) -> Shelf:
        return self.house.shelf

    def stop(self) -> None:
        self.http.close()
        self.server.grace = 0
        self.server._loop.call_soon_threadsafe(self.server.close)
        self.thread.join(20)
        assert not self.thread.is_alive()


@pytest.fixture(scope="session")
def serve(tokenizer, tmp_path_factory):
    """Starts servers of random models and stops them at the end; keywords are those of House and make_server."""
    started: list[Served] = []

    def begin(folder: Path | None = None, *, is_run=True, models=None, house=None, memory=10**9, **options) -> Served:
        folder = folder or tmp_path_factory.mktemp("run") / "laptop"
        shelf = Shelf(models or offers(tokenizer), queue=300, memory=memory, threads=1)
        made = House(shelf, folder, folder if is_run else None, **(house or {}))
        started.append(Served(made, make_server(shelf, house=made, **options)))
        return started[-1]

    yield begin
    for served in started:
        served.stop()


@pytest.fixture(scope="session")
def served(serve, crawl_folder, tmp_path_factory) -> Served:
    """A run of the small fictional web, with random models as its stages."""
    folder = tmp_path_factory.mktemp("runs") / "laptop"
    shutil.copytree(crawl_folder, folder / "crawl")
    return serve(folder)


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright")
    if not Path(CHROMIUM).exists():
        pytest.skip("needs the program chromium")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield browser
        browser.close()


@pytest.fixture(params=VIEWPORTS)
def viewport(request) -> str:
    """Both sizes, one after the other; `page` has it. For one of them: indirect parametrisation."""
    return request.param


@pytest.fixture
def page(browser, request):
    """A page in a browser of its own. The test fails when the console has an error or another host is asked."""
    size = VIEWPORTS[request.getfixturevalue("viewport") if "viewport" in request.fixturenames else "desktop"]
    context = browser.new_context(viewport=size, has_touch=size["width"] < 500, permissions=["clipboard-write"])
    page = context.new_page()
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: faults.append(str(error)))

    def local(asked) -> None:
        address = urlsplit(asked.url)
        if address.scheme not in ("data", "blob") and address.hostname != "127.0.0.1":
            faults.append(f"asked {asked.url}")

    page.on("request", local)
    page.faults = faults  # a test that provokes one empties it
    yield page
    context.close()
    assert not faults


@pytest.fixture
def check_axe():
    """Fails on what axe-core calls serious or critical (WCAG 2.2, levels A and AA, and best practice)."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-core")

    def check(page, theme: str = "light") -> None:
        page.emulate_media(color_scheme=theme)
        found = axe.Axe().run(page).response["violations"]
        serious = [
            f"{violation['id']}: {node['target']} {node['failureSummary']}"
            for violation in found
            if violation["impact"] in ("serious", "critical")
            for node in violation["nodes"]
        ]
        assert not serious, "\n".join(serious)

    return check


def overflow(page) -> int:
    """By how many pixels a page is wider than the window."""
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
