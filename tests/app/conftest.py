"""A server with a small run's models in this process, and a browser that looks at its pages."""

import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from served_runs import VIEWPORTS, Served, offers

from crawl2chat.serve.app.context import AppContext
from crawl2chat.serve.model_pool import ModelPool
from crawl2chat.serve.server import make_server

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--force-prefers-reduced-motion",
)  # fmt: skip
PATIENCE = 120_000  # milliseconds, for machines that are busy with other things


@pytest.fixture(scope="session")
def serve(tokenizer, tmp_path_factory):
    """Starts servers of random models and stops them at the end; keywords are those of AppContext and make_server."""
    started: list[Served] = []

    def begin(folder: Path | None = None, *, is_run=True, models=None, context=None, memory=10**9, **options) -> Served:
        folder = folder or tmp_path_factory.mktemp("run") / "laptop"
        pool = ModelPool(models or offers(tokenizer), queue=300, memory=memory, threads=1)
        made = AppContext(pool, folder, folder if is_run else None, **(context or {}))
        started.append(Served(made, make_server(pool, context=made, **options)))
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


@pytest.fixture(scope="module")
def browser():
    """One for each file: while Playwright runs, its event loop is this thread's, and asyncio.run would fail."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright")
    if not Path(CHROMIUM).exists():
        pytest.skip("needs the program chromium")
    playwright.expect.set_options(timeout=PATIENCE)
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
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: faults.append(str(error)))

    def local(asked) -> None:
        address = urlsplit(asked.url)
        if address.scheme not in ("data", "blob", "file") and address.hostname != "127.0.0.1":
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
