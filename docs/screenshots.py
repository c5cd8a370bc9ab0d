"""Take the pictures of the web app that README and tour show: python docs/screenshots.py runs/laptop

Writes docs/images/PAGE.png; with --all DIR every page at both widths and in both themes, to look at.
Needs Debian's chromium and Playwright (the extra `dev`).
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import Page, sync_playwright

IMAGES = Path(__file__).parent / "images"
SIZES = {"desktop": {"width": 1280, "height": 800}, "phone": {"width": 390, "height": 844}}
QUESTIONS = "Where was Stilik Tifiwan born?"
# each page's state, as its address holds it
PAGES: dict[str, dict[str, object]] = {
    "tokens": {"text": "How many r are in strawberry? Straße, café, naïve: 1842+17=1859."},
    "base": {"view": "recitation"},
    "sampling": {"text": "Chronicle of", "model": "base", "temperature": 0.8, "top_p": 0.9},
    "inside": {"view": "head", "layer": 1, "head": 1},
    "chat": {"with": ["base", "sft", "honesty"]},
    "ranking": {"annotator": "me", "answers": 4},
    "data": {"view": "pages", "row": 3},
    "honesty": {"question": QUESTIONS},
    "thinking": {"temperature": 0.7, "draws": 10},
    "training": {"training": "pretrain"},
    "rollouts": {"group": 0},
    "preferences": {},
    "runs": {"view": "new", "find": "depth", "set": ["pretrain.depth=6"]},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--all", type=Path, metavar="DIR")
    options = parser.parse_args()
    out = options.all or IMAGES
    out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "crawl2chat", "serve", str(options.run), "--port", "0"]
    command += ["--rankings", str(out / "rankings.sqlite")]  # not the run's own
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        url = next(found[1] for line in server.stdout or () if (found := re.search(r"web app: (\S+)/", line)))
        with sync_playwright() as playwright:
            chromium = shutil.which("chromium") or "/usr/bin/chromium"
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            for size, theme in ((s, t) for s in SIZES for t in ("light", "dark")):
                if not options.all and (size, theme) != ("desktop", "light"):
                    continue
                for name in PAGES:
                    context = browser.new_context(viewport=SIZES[size], color_scheme=theme, device_scale_factor=1)
                    page = context.new_page()
                    show(page, url, name)
                    page.screenshot(path=out / (f"{name}-{size}-{theme}.png" if options.all else f"{name}.png"))
                    context.close()
            browser.close()
    finally:
        server.terminate()
        server.wait(30)
        (out / "rankings.sqlite").unlink(missing_ok=True)


def show(page: Page, url: str, name: str) -> None:
    """Open a page in its state, do what makes it worth seeing, and wait until nothing is asked any more."""
    state = {key: json.dumps(value) if isinstance(value, list) else value for key, value in PAGES[name].items()}
    page.goto(f"{url}/{name}#{urlencode(state)}")
    page.locator("h1").wait_for()
    page.wait_for_load_state("networkidle")
    if name == "chat":
        box = page.get_by_role("textbox").last
        box.fill(QUESTIONS)
        box.press("Enter")
    if name == "honesty":
        page.get_by_role("button", name="Ask 30 times").click()
    if name == "thinking":
        page.get_by_role("button", name="Think").click()
    if name == "ranking":
        start = page.get_by_role("button", name=re.compile("start|begin", re.IGNORECASE))
        if start.count():
            start.first.click()
    page.wait_for_timeout(3000)
    page.wait_for_load_state("networkidle")


if __name__ == "__main__":
    main()
