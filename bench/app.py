"""The web app in a browser: how much it loads, how soon it can be used, and how it answers while others chat.

    python bench/app.py [--run runs/laptop] [--rounds 5] [--streams 64]

Needs Debian's chromium and Playwright (the extra `dev`). The server is the command `crawl2chat serve` in a process of
its own, the browser another one, and the streams come from a third. Every figure is a median over --rounds, each in a
browser context without a cache; all goes over loopback.
"""

import argparse
import json
import multiprocessing
import shutil
import statistics
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright
from serve import ServerProcess, run_clients, start_server

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--no-first-run")  # fmt: skip
PAGES = {"/": "start", "/data": "Data", "/tokens": "Tokens", "/sampling": "Sampling", "/inside": "Inside",
         "/chat": "Chat", "/honesty": "Honesty", "/ranking": "Ranking", "/training": "Training",
         "/base": "Base", "/rollouts": "Rollouts", "/preferences": "Preferences"}  # fmt: skip
INSIDE_TOKENS, TYPED_TOKENS, KEYSTROKES = 256, 5000, 40
METRIC_LINES = 1_000_000
PROSE = "The miller's daughter went down to the river at dawn; nobody had told her that the bridge was gone. "
LOADED = """() => {
  const entries = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')];
  return entries.filter((e) => !e.name.includes('/app/')).reduce((sum, e) => sum + e.transferSize, 0);
}"""
# what the browser itself measures of an event: from the key to the next frame that shows its effect
WATCH_KEYS = """() => {
  window.keys = [];
  new PerformanceObserver((list) => window.keys.push(...list.getEntries().filter((e) => e.name === 'keydown')
    .map((e) => e.duration))).observe({ type: 'event', durationThreshold: 16 });
}"""
ASKED = "(part) => performance.getEntriesByType('resource').filter((e) => e.name.includes(part)).map((e) => e.duration)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/laptop"), metavar="RUN")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, default=64)
    options = parser.parse_args()
    chromium = shutil.which("chromium") or "/usr/bin/chromium"
    with served(options.run, options.streams) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        url = f"http://127.0.0.1:{server.port}"
        views(browser, url, options.rounds)
        inside(browser, url, options.rounds)
        typing(browser, url, "End")
        typing(browser, url, "Home")
        under_load(server, url, options.rounds, options.streams)
        browser.close()
    long_training(options.run)


@contextmanager
def served(run: Path, streams: int) -> Iterator[ServerProcess]:
    server = start_server(run, streams)
    try:
        yield server
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()


@contextmanager
def fresh(browser: Browser, address: str) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.goto(address)
    page.locator("h1").wait_for()
    yield page
    context.close()


def median(rounds: int, once: Callable[[], float]) -> float:
    return statistics.median(once() for _ in range(rounds))


def views(browser: Browser, url: str, rounds: int) -> None:
    print(f"{'first view of':16} {'kB over the wire':>17} {'ms to its heading':>18}")
    for path, name in PAGES.items():
        sizes, times = [], []
        for _ in range(rounds):
            began = time.perf_counter()
            with fresh(browser, url + path) as page:
                times.append(1000 * (time.perf_counter() - began))
                sizes.append(page.evaluate(LOADED) / 1000)
        print(f"{name:16} {statistics.median(sizes):17.1f} {statistics.median(times):18.0f}", flush=True)


def inside(browser: Browser, url: str, rounds: int) -> None:
    """From the request to the last byte of its answer, as the browser saw it."""

    def once() -> float:
        with fresh(browser, url + "/inside") as page:
            page.wait_for_load_state("networkidle")
            page.evaluate("performance.clearResourceTimings()")
            page.get_by_role("textbox").first.fill(PROSE * 12)  # more than the cap, to which the page cuts it
            page.locator("text=/^2[0-9][0-9] tokens/").first.wait_for()
            page.wait_for_load_state("networkidle")
            return float(max(page.evaluate(ASKED, "/app/inside/")))

    print(f"\nInside, {INSIDE_TOKENS} tokens: {median(rounds, once):.0f} ms for its largest answer", flush=True)


def typing(browser: Browser, url: str, place: str) -> None:
    with fresh(browser, url + "/tokens") as page:
        box = page.get_by_role("textbox").first
        box.fill(PROSE * (TYPED_TOKENS // 24))
        page.wait_for_timeout(3000)
        page.evaluate(WATCH_KEYS)
        box.press(f"Control+{place}")
        for _ in range(KEYSTROKES):
            page.keyboard.type("x")
            page.wait_for_timeout(60)
        page.wait_for_timeout(1000)
        took = page.evaluate("window.keys") or [0.0]
        print(f"Tokens, {TYPED_TOKENS} tokens in four encodings, typing at {place}: median of {KEYSTROKES} keystrokes "
              f"{statistics.median(took):.0f} ms, slowest {max(took):.0f} ms", flush=True)  # fmt: skip


def under_load(server: ServerProcess, url: str, rounds: int, streams: int) -> None:
    """What a page waits for, alone and while others stream their answers; each request is a connection of its own."""
    asked: dict[str, tuple[str, dict[str, Any] | None]] = {
        "about the run": ("/app/about", None),
        "text as ids": ("/tokenize", {"prompt": PROSE * 5}),
        "the page Tokens": ("/app/tokens/encode", {"text": PROSE * 5, "encodings": ["run", "gpt4"]}),
        "the page Sampling": ("/app/sampling/prompt", {"text": PROSE}),
    }

    def times() -> dict[str, float]:
        found = {}
        for name, (path, body) in asked.items():
            took = []
            for _ in range(10 * rounds):
                began = time.perf_counter()
                data = None if body is None else json.dumps(body).encode()
                with urllib.request.urlopen(url + path, data, timeout=60) as answer:
                    answer.read()
                took.append(1000 * (time.perf_counter() - began))
            found[name] = statistics.median(took)
        return found

    times()  # opens the encodings
    alone = times()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        running = pool.apply_async(run_clients, ("good", server.port, streams, 30))
        time.sleep(5)
        busy = times()
        running.get()
    for name, before in alone.items():
        print(f"{name}: {before:.1f} ms alone, {busy[name]:.1f} ms beside {streams} streams, "
              f"{busy[name] / before:.1f} times", flush=True)  # fmt: skip


def long_training(run: Path) -> None:
    """Opening the curves of a million steps, next to the run, and asking again when all of them are read."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "run").symlink_to(run.resolve())
        file = Path(folder) / "long" / "pretrain" / "metrics.jsonl"
        file.parent.mkdir(parents=True)
        with open(file, "w", encoding="utf-8") as handle:
            for step in range(1, METRIC_LINES + 1):
                line = {"step": step, "loss": 2 + 3 / (1 + step / 1e4) + step % 7 / 10, "tokens": 8192 * step,
                        "epoch": step / 16000, "grad_norm": step % 11 / 10, "lr_scale": 1.0, "seconds": 0.4211,
                        "tokens_per_second": 19453, "gflops_per_second": 162.33, "memory_mb": 1234}  # fmt: skip
                handle.write(json.dumps(line) + "\n")
        with served(Path(folder) / "run", 1) as server:
            url = f"http://127.0.0.1:{server.port}/app/training/"
            urllib.request.urlopen(url + "list", timeout=60).read()
            body = json.dumps({"trainings": ["long:pretrain"], "columns": 1200, "smooth": 256}).encode()

            def ask() -> tuple[float, bytes]:
                began = time.perf_counter()
                with urllib.request.urlopen(url + "curves", body, timeout=60) as answer:
                    content = answer.read()
                return 1000 * (time.perf_counter() - began), content

            busy = server.cpu_seconds()
            first, content = ask()
            busy = server.cpu_seconds() - busy
            began = time.perf_counter()
            while b'"share": 1.0' not in content:
                _, content = ask()
            whole = first / 1000 + time.perf_counter() - began
            again, _ = ask()
            size = file.stat().st_size / 1e6
    print(f"Training, {METRIC_LINES:,} lines ({size:.0f} MB): first answer after {first:.0f} ms "
          f"({1000 * busy:.0f} ms of processor time), all read after {whole:.1f} s, asked again {again:.0f} ms; "
          f"{len(content) / 1000:.0f} kB", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
