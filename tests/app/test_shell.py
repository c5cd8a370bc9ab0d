"""The frame of the web app, and what holds for the server and for all pages."""

import asyncio
import gzip
import json
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from served_runs import STAGES, offers, overflow

from crawl2chat.generate import Sampling
from crawl2chat.serve.app import WEB
from crawl2chat.serve.engine_thread import GenerationRequest
from crawl2chat.serve.errors import ApiError
from crawl2chat.serve.http import tensors
from crawl2chat.serve.model_pool import ModelPool

OWN = [file for file in WEB.rglob("*.js") if file.parent.name != "vendor"]


def test_every_model_of_the_run_answers_under_its_name_and_its_stage(served):
    names = [model["id"] for model in served.http.get("/v1/models").json()["data"]]
    assert names == [f"tiny-{stage}" for stage in STAGES]
    answers = {}
    for name in (*names, *STAGES, "base"):
        body = {"model": name, "prompt": "In 1842", "max_tokens": 8, "temperature": 0}
        answer = served.http.post("/v1/completions", json=body).json()
        answers[name] = answer["choices"][0]["text"]
        assert answer["model"] == f"tiny-{'pretrain' if name == 'base' else name.removeprefix('tiny-')}"
    assert all(answers[f"tiny-{stage}"] == answers[stage] for stage in STAGES)
    assert answers["base"] == answers["pretrain"]
    assert len({answers[stage] for stage in STAGES}) == len(STAGES)
    refused = served.http.post("/v1/completions", json={"model": "tiny-other", "prompt": "x"})
    assert refused.status_code == 404
    assert "'tiny-sft'" in refused.json()["error"]["message"]


def test_computing_happens_between_the_steps_of_the_engine(serve):
    served = serve()
    pool = served.pool

    def ask(work):
        async def asking():
            return await (await pool.load("sft")).compute(work)

        return asyncio.run_coroutine_threadsafe(asking(), served.server._loop).result(60)

    assert ask(lambda engine: engine.running) == 0
    with pytest.raises(ZeroDivisionError):
        ask(lambda engine: 1 / 0)
    with pytest.raises(RuntimeError, match="KeyboardInterrupt"):
        ask(lambda engine: (_ for _ in ()).throw(KeyboardInterrupt()))
    assert ask(lambda engine: engine.context) == 256  # the thread lives on
    assert served.http.post("/v1/completions", json={"model": "sft", "prompt": "x"}).status_code == 200


def test_models_are_put_away_when_memory_is_short_but_not_the_default_or_busy_ones(tokenizer):
    one = ModelPool(offers(tokenizer), queue=8).default.size

    async def story():
        pool = ModelPool(offers(tokenizer), queue=8, memory=int(3.5 * one), threads=1)
        pool.start(asyncio.get_running_loop())
        first, second = await pool.load("sft"), await pool.load("honesty")
        assert await pool.load("sft") is first  # used later than the second one
        await pool.load("prefer")
        assert list(pool.loaded) == ["tiny-reinforce", "tiny-sft", "tiny-prefer"]
        assert (await pool.load("honesty")) is not second
        for loaded in list(pool.loaded.values()):
            loaded.admission.open.add(object())  # busy
        with pytest.raises(ApiError, match="--models-memory"):
            await pool.load("pretrain")
        assert await pool.load(None) is pool.default
        pool.stop()

    asyncio.run(story())


def test_a_model_is_kept_while_it_computes_and_afterwards_refuses_rather_than_never_answers(tokenizer):
    one = ModelPool(offers(tokenizer), queue=8).default.size

    async def story():
        pool = ModelPool(offers(tokenizer), queue=8, memory=int(2.5 * one), threads=1)
        pool.start(asyncio.get_running_loop())
        loaded = await pool.load("sft")
        with loaded.in_use(), pytest.raises(ApiError, match="--models-memory"):
            await pool.load("honesty")
        assert await loaded.compute(lambda engine: 1) == 1
        await pool.load("honesty")
        async with asyncio.timeout(5):
            with pytest.raises(ApiError, match="put away"):
                await loaded.compute(lambda engine: 1)
            with pytest.raises(ApiError, match="put away"):
                loaded.admission.admit([GenerationRequest([1], Sampling(), 0)])
        pool.stop()

    asyncio.run(story())


def test_a_model_that_turns_out_too_large_beside_the_others_is_not_kept(tokenizer):
    made = offers(tokenizer)
    one = ModelPool(made, queue=8).default.size

    async def story():
        weights = 4 * made[0].n_parameters  # all that is known of a size before loading: there is a cache as well
        assert weights < one
        pool = ModelPool(made, queue=8, memory=one + weights, threads=1)
        pool.start(asyncio.get_running_loop())
        for _ in range(2):
            with pytest.raises(ApiError, match="--models-memory"):
                await pool.load("sft")
        assert list(pool.loaded) == ["tiny-reinforce"]
        pool.stop()

    asyncio.run(story())


def test_tensors_come_out_as_they_went_in():
    arrays = {
        "bytes": np.arange(5, dtype=np.uint8),
        "half": np.array([[0.5, -2]], dtype=np.float16),
        "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "none": np.zeros((0, 4), dtype=np.int32),
    }
    body = tensors({"what": "ein Täst"}, arrays).body
    (length,) = struct.unpack("<I", body[:4])
    assert (4 + length) % 8 == 0
    header = json.loads(body[4 : 4 + length])
    assert header["what"] == "ein Täst"
    for told, (name, array) in zip(header["arrays"], arrays.items(), strict=True):
        assert told["name"] == name
        assert told["offset"] % 8 == 0
        read = np.frombuffer(body, told["dtype"], array.size, 4 + length + told["offset"]).reshape(told["shape"])
        np.testing.assert_array_equal(read, array)
    with pytest.raises(TypeError, match="complex128"):
        tensors({}, {"x": np.zeros(1, dtype=complex)})


def test_pages_need_no_key_but_what_they_ask_does(serve):
    served = serve(key="s3cret")
    for path in ("/", "/tokens", "/web/shell.js", "/web/vendor/preact-11.2.0.mjs"):
        assert served.http.get(path).status_code == 200, path
    for path in ("/app/about", "/v1/models", "/metrics", "/webs", "/tokenizer_info"):
        assert served.http.get(path).status_code == 401, path
    assert served.http.get("/web/../../model_pool.py").status_code in (401, 404)
    assert served.http.get("/web/%2e%2e/model_pool.py").status_code == 404
    about = served.http.get("/app/about", headers={"Authorization": "Bearer s3cret"}).json()
    assert [model["stage"] for model in about["models"]] == list(STAGES)


def test_an_unknown_address_is_a_page_for_a_browser_and_json_for_others(served):
    address = "/nowhere/%3Cb%3Ex"
    page = served.http.get(address, headers={"Accept": "text/html,*/*;q=0.8"})
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert '<a href="/">' in page.text
    assert "&lt;b&gt;x" in page.text
    assert "<b>" not in page.text
    for answer in (served.http.get(address), served.http.post(address, headers={"Accept": "text/html"})):
        assert answer.status_code == 404
        assert "no such route" in answer.json()["error"]["message"]


def test_pages_know_which_models_were_taught_to_call_tools(served):
    models = served.http.get("/app/about").json()["models"]
    assert {model["stage"] for model in models if model["calls_tools"]} == {"reinforce", "honesty", "prefer"}
    assert len(models) == len(STAGES)


def test_no_other_page_may_read_or_frame_the_app(served):
    for path in ("/", "/app/about", "/web/shell.js"):
        assert served.http.get(path, headers={"Origin": "https://evil.example"}).status_code == 403
        assert served.http.get(path, headers={"Host": "evil.example"}).status_code == 403
    headers = served.http.get("/").headers
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["referrer-policy"] == "no-referrer"


def test_ours_is_asked_about_each_time_and_what_is_vendored_is_kept(served):
    ours, vendored = (served.http.get(f"/web/{name}") for name in ("shell.js", "vendor/htm-3.1.1.mjs"))
    assert ours.headers["cache-control"] == "no-cache"
    assert "immutable" in vendored.headers["cache-control"]
    again = served.http.get("/web/shell.js", headers={"If-None-Match": ours.headers["etag"]})
    assert again.status_code == 304
    assert "javascript" in vendored.headers["content-type"]


def test_the_first_view_is_small():
    """150 kB gzipped are allowed; this counts all that the start page loads."""
    first = [WEB / "index.html", WEB / "style.css", WEB / "icon.svg", WEB / "shell.js", WEB / "pages/home/page.js"]
    first += [*WEB.glob("common/*.js"), *WEB.glob("vendor/*.mjs")]
    assert sum(len(gzip.compress(file.read_bytes())) for file in first) < 60_000


def test_vendored_files_have_their_version_in_their_names_and_a_licence_beside():
    for file in (WEB / "vendor").glob("*.[mjc]*s"):
        assert re.search(r"-\d+\.\d+\.\d+\.", file.name), file.name
        assert any(file.name.startswith(licence.stem.removeprefix("LICENSE-"))
                   for licence in (WEB / "vendor").glob("LICENSE-*")), file.name  # fmt: skip
    imported = re.findall(r'"(/web/vendor/[^"]+)"', (WEB / "index.html").read_text())
    assert all((WEB.parent / path[1:]).exists() for path in imported)


@pytest.mark.parametrize("file", OWN, ids=lambda file: str(Path(file).relative_to(WEB)))
def test_nothing_makes_html_of_text(file):
    text = file.read_text()
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|dangerouslySet|\beval\(|new Function", text
    )
    assert not re.search(r"https?://(?!www\.w3\.org/)", text), "asks another host"


def test_the_start_page(served, page, viewport, check_axe):
    page.goto(served.url)
    page.get_by_role("heading", name="A run, from crawl to chat").wait_for()
    assert page.get_by_role("row").count() == 1 + len(STAGES)
    assert page.locator("text=tiny-honesty").is_visible()
    assert overflow(page) <= 0
    check_axe(page)
    check_axe(page, "dark")


def test_a_skip_link_and_the_theme_by_keys(served, page):
    page.goto(served.url)
    page.get_by_role("heading", name="A run, from crawl to chat").wait_for()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.get_by_role("button", name="colours: auto; change").press("Enter")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.get_by_role("button", name="large type").press("Enter")
    page.reload()
    page.get_by_role("button", name="colours: dark; change").wait_for()
    assert page.evaluate("getComputedStyle(document.documentElement).fontSize") == "22px"


def test_a_wrong_key_is_asked_for_again(serve, page):
    served = serve(key="s3cret")
    page.goto(served.url)
    box = page.get_by_label("This server wants its key")
    box.fill("wrong")
    assert page.get_by_role("alert").count() == 0
    box.press("Enter")
    page.get_by_role("alert").get_by_text("The server refused that key.").wait_for()
    box.fill("s3cret")
    box.press("Enter")
    page.get_by_role("heading", name="A run, from crawl to chat").wait_for()
    page.reload()
    page.get_by_role("heading", name="A run, from crawl to chat").wait_for()  # the tab remembers it
    page.faults[:] = [fault for fault in page.faults if "401" not in fault]


def test_the_back_button_returns_to_the_tab_and_the_page_that_were_left(served, page):
    expect = pytest.importorskip("playwright.sync_api", reason="needs Playwright").expect
    page.goto(f"{served.url}/tokens")
    tab = page.get_by_role("tab", selected=True)
    expect(tab).to_have_text("Side by side")
    page.get_by_role("tab", name="Vocabulary").click()
    expect(page).to_have_url(re.compile("view=vocabulary"))
    page.get_by_role("navigation").get_by_role("link", name="Chat").click()
    page.get_by_role("heading", name="Chat", exact=True).wait_for()
    page.go_back()
    expect(tab).to_have_text("Vocabulary")
    page.go_back()
    expect(tab).to_have_text("Side by side")
    page.go_forward()
    expect(tab).to_have_text("Vocabulary")
