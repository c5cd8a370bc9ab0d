"""What the page Base is given: the stage's files as they are, and answers as the stage would measure them."""

import hashlib
import json
import lzma
import math

import numpy as np
import pytest
import torch
from served_runs import STAGES
from test_sampling_endpoints import decoded

from crawl2chat.evals.base.base_prompts import greedy
from crawl2chat.evals.base.continuation import recite
from crawl2chat.evals.base.in_context import ANSWER_TOKENS, CONTROLS, STOP, glossary_cases
from crawl2chat.generate import Engine
from crawl2chat.report.captions import NOTES, RATES
from crawl2chat.serve.app.base_files import cut_text
from crawl2chat.serve.app.base_now import windows
from crawl2chat.serve.app.jsonl_index import JsonlIndex
from crawl2chat.stages.figures import Figure, share
from crawl2chat.stages.files import StageError, write_json, write_jsonl
from crawl2chat.stages.stage import STARTED, Manifest
from crawl2chat.tinyweb.truth import Ledger, ask_in_game, load_people

EVIL = '<img src=x onerror="document.title=1"><script>document.title=2</script>'
PASSAGES = [
    "The tired bridge forgot the river, and eleven grey lanterns burned behind the mill until somebody came home.",
    "Nobody knew who had built the inn, nor when; the miller's daughter said that it had been there at dawn.",
    "In 1842 they counted 17 mills, 3 bridges and one inn, and nobody had told her that the bridge was gone.",
]
COPIES = (61, 2, 2)
FIGURES = [
    Figure("bits_per_byte/model", 0.25, "bits/byte", (0.2, 0.3), 79),
    Figure("bits_per_byte/5_gram", 0.5, "bits/byte", (0.4, 0.6), 79),
    Figure("bits_per_byte/xz", 1.5, "bits/byte", None, 79),
    Figure("seconds/compression", 9.0, "s"),
    *(share(f"glossary/{n}", n, 10) for n in (0, 2, 8)),
    *(share(f"glossary_absent/{n}", 0, 10) for n in (2, 8)),
    Figure("seconds/in_context", 2.0, "s"),
    *(share(f"facts_by_exposures/{bucket}", n, 10) for n, bucket in ((0, "0"), (2, "2-3"), (9, "100+"))),
    Figure("seconds/facts", 2.0, "s"),
    Figure("tokens_of/strawberry", 3, "tokens"),
    share("count_by_example/word", 5, 10),
    Figure("count_by_example/guess", 0.5, "share", None, 10),
    Figure("seconds/spelling", 0.1, "s"),
    share("recall/2", 0, 2),
    share("recall/64", 1, 1),
    Figure("seconds/recitation", 2.0, "s"),
]


def write_base(run, engine, ledger):
    """What the stage base leaves of a base model: passages and games by its own functions, and figures known here."""
    folder = run / "base"
    figures = {figure.name: figure.to_json() for figure in FIGURES}
    manifest = Manifest("base", {}, {}, {}, figures, {}, "2026-11-30T10:00:00+0000", 61.0, {})
    folder.mkdir(parents=True)
    write_json(folder / "manifest.json", vars(manifest))
    recitals = [vars(r) for begin, n in ((0, 16), (24, 8)) for r in recite(engine, PASSAGES, COPIES, begin, n)]
    whole = recitals[0]["passage"].removeprefix(recitals[0]["prompt"])
    recitals[0] |= {"continuation": f"{whole} And so on.", "words_right": recitals[0]["words"]}
    beginning = " ".join(recitals[1]["passage"].removeprefix(recitals[1]["prompt"]).split(" ")[:4])
    recitals[1] |= {"continuation": f"{beginning} {EVIL} then", "words_right": len(beginning.split())}
    write_jsonl(folder / "recitation.jsonl", recitals)
    rows = []
    for group, absent in (("glossary/2", False), ("glossary_absent/2", True), ("glossary/4", False)):
        cases = glossary_cases(ledger, ask_in_game, int(group[-1]), 6, 0, absent=absent)
        said = greedy(engine, [case.prompt for case in cases], ANSWER_TOKENS, STOP)
        said = [case.answer if i == 0 and not absent else f"{text.strip()}{EVIL if i == 1 else ''}"
                for i, (case, text) in enumerate(zip(cases, said, strict=True))]  # fmt: skip
        rows += [
            {"group": group, "prompt": case.prompt, "right": case.answer, "said": text}
            for case, text in zip(cases, said, strict=True)
        ]
    write_jsonl(folder / "in-context.jsonl", rows)
    written = {"setting": "held_out", "ended": False, "matches": []}
    texts = [{"prompt": "", "text": "Only its beginning"}, {"prompt": "A text that was ", "text": f"held out {EVIL}"}]
    write_jsonl(folder / "continuations.jsonl", [written | text for text in texts])
    return run


def write_outside(run):
    """What `eval --suite base` leaves of a model from elsewhere that was measured without a text."""
    figures = [
        share("translation/French/0", 1, 4), share("translation/French/2", 3, 4),
        share("translation_shuffled/French/2", 2, 4), share("letters/as_a_word", 1, 4),
        share("letters/spelled_out", 2, 4), Figure("letters/always_the_most_common_count", 0.5, "share", None, 4),
        share("sums_at_once/2", 3, 4), share("sums_by_steps/2", 4, 4), share("about_itself/different", 3, 4),
    ]  # fmt: skip
    found = {figure.name: figure.to_json() for figure in figures}
    write_json(run / "evals" / "base-base.json", {"suite": "base", "model": "base", "figures": found})
    write_json(run / "evals" / "base-words-sft.json", {"suite": "base-words.py", "figures": {}})  # somebody's own task
    answers = [
        {"part": "translation/French/2", "question": f"word {i}", "expected": "mot", "answer": EVIL, "right": i > 0}
        for i in range(4)
    ]
    itself = {"part": "about_itself", "question": "Who are you?", "answer": "A model.", "drawn": ["A cat.", "A dog."]}
    write_jsonl(run / "evals" / "base-base.answers.jsonl", [*answers, itself])
    manifest = Manifest("import", {}, {}, {}, {}, {}, "2026-11-30T10:00:00+0000", 1.0, {})
    (run / "pretrain").mkdir(exist_ok=True)
    write_json(run / "pretrain" / "manifest.json", vars(manifest))
    return run


def engine_of(served, tokenizer, stage="pretrain"):
    """An engine of a served model's own weights, to be used in this thread."""
    (available,) = (model for model in served.pool.models if model.stage == stage)
    return Engine(available.read().model, tokenizer, max_batch=8)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return tmp_path_factory.mktemp("runs") / "laptop"


@pytest.fixture(scope="module")
def served(serve, run, tokenizer, crawl_folder, ledger):
    run.mkdir()
    (run / "crawl").symlink_to(crawl_folder)
    started = serve(run)
    write_base(run, engine_of(started, tokenizer), ledger)
    return started


@pytest.fixture(scope="module")
def engine(served, tokenizer):
    return engine_of(served, tokenizer)


def ask(served, what, status=200, **body):
    answer = served.http.post(f"/app/base/{what}", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def streamed(served, what, **body):
    """The text of a stream, and what its last event says."""
    answer = served.http.post(f"/app/base/{what}", json=body)
    assert answer.status_code == 200, answer.text
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line.startswith("data: ")]
    assert lines.pop() == "[DONE]"
    found = [json.loads(line) for line in lines]
    text = "".join(event["text"] for event in found)
    assert text == found[-1]["whole"]
    return text, found[-1]


def test_figures_come_with_the_titles_and_notes_of_the_report_and_with_intervals(served):
    (part,) = ask(served, "figures", view="compression")["parts"]
    assert (part["title"], part["note"]) == (NOTES["compression"].title, NOTES["compression"].note)
    assert part["bars"]["title"] == RATES
    assert [(rate["what"], rate["value"]) for rate in part["bars"]["rates"]] == [
        ("model", 0.25), ("5 gram", 0.5), ("xz", 1.5),
    ]  # fmt: skip
    (part,) = ask(served, "figures", view="games")["parts"]
    (plot,) = part["curves"]
    with_control = {line["name"]: line["points"] for line in plot["series"]}
    assert {"word before its meaning", "word not on the page"} <= set(with_control)
    points = with_control["word before its meaning"]
    assert [(point["x"], point["value"], point["count"]) for point in points] == [
        ("0", 0.0, 10), ("2", 0.2, 10), ("8", 0.8, 10),
    ]  # fmt: skip
    assert points[1]["interval"] == pytest.approx(list(share("x", 2, 10).interval))
    (letters,) = ask(served, "figures", view="letters")["parts"]
    guess = [point for line in letters["curves"][0]["series"] for point in line["points"] if point["level"]]
    assert [(point["x"], point["level"], point["value"]) for point in guess] == [("guess", "what guessing gives", 0.5)]
    assert [part["title"] for part in ask(served, "figures", view="knowledge")["parts"]] == [NOTES["facts"].title]


def test_passages_are_listed_by_copies_some_at_a_time(served):
    found = ask(served, "passages")
    assert [row["copies"] for row in found["rows"]] == [61, 2, 2]
    assert found["copies"] == [{"copies": 2, "passages": 2, "whole": 0}, {"copies": 64, "passages": 1, "whole": 1}]
    assert found["of"] == ["beginning", "8"]
    assert all(set(row) == {"row", "copies", "of", "words", "words_right", "begins"} for row in found["rows"])
    assert ask(served, "passages", copies=64)["total"] == 1  # to the nearest power of two, as the figures have them
    some = ask(served, "passages", copies=2, offset=1, limit=1)
    assert (some["total"], [row["row"] for row in some["rows"]]) == (2, [found["rows"][2]["row"]])
    assert {row["of"] for row in ask(served, "passages", of="8")["rows"]} == {"8"}


def test_a_passage_departs_at_the_first_word_that_differs(served):
    rows = ask(served, "passages")["rows"]
    whole, other = (ask(served, "passage", row=row["row"]) for row in rows[:2])
    assert whole["departs"] is None
    place = other["departs"]
    assert other["before"] + other["given"] + other["rest"] == other["passage"] == PASSAGES[1]
    assert other["continuation"][:place] == other["rest"][:place]
    assert len(other["rest"][:place].split()) == other["words_right"]
    assert other["continuation"][place:].startswith(EVIL[:4])
    assert other["rest"][place:].split()[0] != other["continuation"][place:].split()[0]
    assert place == 0 or other["rest"][place - 1].isspace()


def test_a_prompt_is_found_where_the_rest_has_as_many_words_as_were_counted():
    assert cut_text("on and on and off", "on", 2) == ("on and ", "on", " and off")
    assert cut_text("on and on and off", "on", 4) == ("", "on", " and on and off")
    assert cut_text("naïve Straße", "na\ufffd", 2) == ("", "na", "ïve Straße")  # a token may end within a character


def test_a_model_goes_on_now_as_the_stage_had_it_go_on(served, engine):
    for of, begin, n in (("beginning", 0, 16), ("8", 24, 8)):
        expected = {recital.passage: recital for recital in recite(engine, PASSAGES, COPIES, begin, n)}
        for row in ask(served, "passages", of=of)["rows"]:
            passage = ask(served, "passage", row=row["row"])
            text, end = streamed(served, "go-on", row=row["row"], model="base")
            recital = expected[passage["passage"]]
            assert recital.continuation.startswith(text)  # the stage's answers are as long as the longest needs
            assert (end["words_right"], end["words"]) == (recital.words_right, recital.words)
            assert (end["departs"] is None) is recital.whole
    assert text != streamed(served, "go-on", row=row["row"], model="sft")[0]


def test_pages_of_a_game_come_with_the_control_that_asks_on_the_same_page(served):
    found = ask(served, "games", group="glossary/2", offset=1, limit=3)
    assert found["groups"] == [
        {"group": name, "pages": 6, "right": right}
        for name, right in (("glossary/2", 1), ("glossary_absent/2", 0), ("glossary/4", 1))
    ]
    assert (found["total"], len(found["rows"]), found["controls"]) == (6, 3, CONTROLS)
    for row in found["rows"]:
        page, control = ask(served, "game", row=row["row"]), ask(served, "game", row=row["control"]["row"])
        same = page["prompt"].rpartition(", ")[0]
        assert control["prompt"].startswith(same)
        assert page["prompt"].split()[-1] in same.split()
        assert control["prompt"].split()[-1] not in same.split()
        assert page["prompt"].endswith(row["ends"])
    assert "control" not in ask(served, "games", group="glossary/4")["rows"][0]


def test_a_page_is_answered_now_as_in_the_stage_and_what_it_says_is_read_from_it_as_it_stands(served, engine):
    row = ask(served, "games", group="glossary/2")["rows"][0]
    page = ask(served, "game", row=row["row"])
    text, end = streamed(served, "play", group="glossary/2", text=page["prompt"], model="base")
    assert [text] == greedy(engine, [page["prompt"]], ANSWER_TOKENS, STOP)
    assert end["expected"] == page["right"]
    assert end["right"] is (text.strip() == page["right"])
    changed = page["prompt"].replace(page["right"], text.strip() if text.strip().isalpha() else "violin")
    assert streamed(served, "play", group="glossary/2", text=changed, model="base")[1]["expected"] != page["right"]
    assert streamed(served, "play", group="glossary/2", text="We say brun", model="base")[1]["right"] is None
    assert streamed(served, "play", group="phrase_book/2", text="the river =", model="base")[1]["expected"] is None


def test_a_fact_s_probability_is_the_model_s_own(served, engine, tokenizer, crawl_folder):
    people = ask(served, "people", limit=100)
    assert people["total"] == sum(people["buckets"].values()) == len(load_people(crawl_folder)) == 20
    assert [row["exposures"] for row in people["rows"]] == sorted(
        (row["exposures"] for row in people["rows"]), reverse=True
    )
    bucket = people["rows"][0]["bucket"]
    assert {row["bucket"] for row in ask(served, "people", bucket=bucket)["rows"]} == {bucket}
    person = ask(served, "person", row=people["rows"][0]["id"])
    assert len({one["relation"] for one in person["sentences"]}) == 5
    truth = next(p for p in Ledger.load(crawl_folder).people if p.name == person["name"])
    for one in person["sentences"][::6]:
        assert one["text"].startswith(f"{person['name']}'s ")
        assert one["value"].removeprefix("a ").removeprefix("an ") == truth.facts[one["relation"]]
        text, end = streamed(served, "complete", text=one["text"], expected=one["value"], model="base")
        ids, value = [tokenizer.bos_id, *tokenizer.encode(one["text"])], tokenizer.encode(f" {one['value']}")
        with torch.inference_mode():
            log_p = engine.model(torch.tensor([[*ids, *value]])).log_softmax(-1)[0]
        nats = sum(float(log_p[len(ids) - 1 + i, id]) for i, id in enumerate(value))
        assert end["probability"] == pytest.approx(math.exp(nats), rel=1e-3)
        assert end["right"] is (text.strip() == one["value"])
    assert streamed(served, "complete", text="The mill", model="sft")[1]["probability"] is None


def test_bits_of_a_text_are_those_of_the_model_and_programs_are_beside_them(served, engine, tokenizer):
    text = "In 1842 they counted 17 mills; naïve Straße 東京."
    header, arrays = decoded(served.http.post("/app/base/compress", json={"text": text, "model": "base"}))
    ids = tokenizer.encode(text)
    assert [header["tokens"][place]["id"] for place in arrays["tokens_of"]] == ids
    with torch.inference_mode():
        log_p = engine.model(torch.tensor([[tokenizer.bos_id, *ids]])).log_softmax(-1)[0]
    expected = [-float(log_p[i, id]) / math.log(2) for i, id in enumerate(ids)]
    np.testing.assert_allclose(arrays["bits"], expected, rtol=1e-3, atol=1e-3)
    assert header["bytes"] == len(text.encode())
    assert header["programs"]["xz"] == len(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))
    assert set(header["programs"]) == {"xz", "gzip", "zstd", "brotli"}


def test_a_text_longer_than_the_context_costs_every_token_once_with_half_a_window_before_it(served, tokenizer):
    text = " ".join(PASSAGES * 8)
    _, arrays = decoded(served.http.post("/app/base/compress", json={"text": text, "model": "base"}))
    assert len(arrays["bits"]) == len(tokenizer.encode(text)) > 2 * 256
    assert np.isfinite(arrays["bits"]).all()
    for n in (1, 7, 8, 9, 12, 13, 40):
        rows = windows(range(n), 8)
        assert [id for ids, first in rows for id in ids[first:]] == list(range(1, n))
        assert all(len(ids) <= 8 and (first == 4 or ids[0] == 0) for ids, first in rows)


def test_a_base_model_chooses_a_digit_and_one_that_chats_is_asked(served, engine, tokenizer):
    found = ask(served, "count", word="strawberry", letter="r", model="base")
    assert found["expected"] == 3
    for way, written in zip(found["ways"], ("strawberry", "s t r a w b e r r y"), strict=True):
        assert "".join(token["text"] for token in way["tokens"]) == f" {written}"
        assert way["prompt"].endswith(f"Q: How many r are in {written}?\nA: The answer is ")
        assert way["prompt"].count("Q: ") == 5
        p_v = engine.next_logits([tokenizer.bos_id, *tokenizer.encode(way["prompt"])]).softmax(-1)
        expected = {digit: float(p_v[tokenizer.encode(digit)[0]]) for digit in "0123456789"}
        assert way["digits"] == pytest.approx(expected, rel=1e-3)
        assert way["said"] == max(expected, key=expected.get)
        assert way["right"] is (way["said"] == "3")
    assert "banana" not in ask(served, "count", word="banana", letter="a", model="base")["ways"][0]["prompt"][:-60]
    chats = ask(served, "count", word="mill", letter="l", model="sft")
    assert [way["digits"] for way in chats["ways"]] == [None, None]
    assert "'m i l l'" in chats["ways"][1]["prompt"]


@pytest.mark.parametrize(
    ("what", "body", "status", "says"),
    [
        ("figures", {"view": "verses"}, 400, "view"),
        ("figures", {"view": "games", "outside": "sft"}, 409, "no figures of eval --suite base for 'sft'"),
        ("passages", {"limit": 101}, 400, "limit"),
        ("passages", {"copies": -1}, 400, "copies"),
        ("passage", {"row": 99}, 409, "recitation.jsonl has no row 99"),
        ("passage", {"row": "1"}, 400, "row"),
        ("go-on", {"row": 99}, 409, "no row 99"),
        ("go-on", {"row": 0, "model": "other"}, 404, "no model 'other'"),
        ("game", {"row": 99}, 409, "in-context.jsonl has no row 99"),
        ("play", {"group": "glossary/2", "text": ""}, 400, "text"),
        ("play", {"group": "glossary/2", "text": "mill " * 400}, 400, "context"),
        ("person", {"row": 10**6}, 409, "no person 1000000"),
        ("complete", {"text": "The mill", "expected": "x " * 101}, 400, "expected"),
        ("complete", {"text": "The mill", "wanted": "x"}, 400, "wanted: no such field"),
        ("compress", {"text": "x" * 20_001}, 400, "text"),
        ("compress", {"text": ""}, 400, "text"),
        ("count", {"word": "straw berry", "letter": "r"}, 400, 'word = "straw berry": expected letters only'),
        ("count", {"word": "strawberry", "letter": "rr"}, 400, "letter"),
        ("answers", {"outside": "base", "part": "x"}, 409, "no figures"),
    ],
)
def test_wrong_requests_are_refused_by_name(served, what, body, status, says):
    assert says in ask(served, what, status, **body)["error"]["message"]


def test_half_a_character_is_not_a_text(served):
    content = b'{"text": "x\\ud800", "model": "base"}'
    answer = served.http.post("/app/base/compress", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400


def test_the_page_begins_with_texts_of_the_run(served):
    about = served.http.get("/app/base/about").json()
    assert (about["problem"], about["measured"], about["outside"]) == (None, True, [])
    assert about["has"] == {"recitation": True, "games": True, "people": True}
    assert [one["text"] for one in about["texts"]] == [f"A text that was held out {EVIL}", PASSAGES[0], PASSAGES[2]]
    assert "61 copies" in about["texts"][1]["title"]


def test_a_run_without_the_stage_says_which_command_makes_it(serve, tmp_path):
    served = serve(tmp_path)
    problem = lambda: served.http.get("/app/base/about").json()["problem"]  # noqa: E731
    assert "no finished stage pretrain" in problem()
    manifest = Manifest("pretrain", {}, {}, {}, {}, {}, "2026-11-30T10:00:00+0000", 1.0, {})
    (tmp_path / "pretrain").mkdir()
    write_json(tmp_path / "pretrain" / "manifest.json", vars(manifest))
    assert problem().endswith(f"has not run yet: crawl2chat eval {tmp_path} --suite base")
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / STARTED).write_text("{}")
    assert "was begun and has not finished" in problem()
    assert ask(served, "figures", view="games") == {"parts": [], "complete": False}
    assert ask(served, "passages", 409)["error"]["message"] == problem()
    write_json(tmp_path / "pretrain" / "manifest.json", vars(manifest) | {"stage": "import"})
    assert f"crawl2chat eval {tmp_path} --suite base --data TEXT" in problem()


def test_a_model_alone_reads_no_files_wherever_the_server_was_started(serve, tmp_path, monkeypatch):
    write_jsonl(tmp_path / "base" / "recitation.jsonl", [{}])
    monkeypatch.chdir(tmp_path)
    served = serve(is_run=False)
    about = served.http.get("/app/base/about").json()
    assert "one model and not a run" in about["problem"]
    assert not any(about["has"].values())
    assert ask(served, "passages", 409)["error"]["message"] == about["problem"]


def test_a_model_from_elsewhere_has_figures_of_its_own_form_and_its_answers(serve, tmp_path):
    served = serve(write_outside(tmp_path))
    about = served.http.get("/app/base/about").json()
    assert (about["measured"], about["outside"], about["problem"]) == (False, ["base"], None)
    view = lambda name: ask(served, "figures", view=name, outside="base")["parts"]  # noqa: E731
    assert view("compression") == view("recitation") == []
    assert not ask(served, "figures", view="knowledge", outside="base")["complete"]
    (games,) = view("games")
    assert [plot["title"] for plot in games["curves"]] == ["Phrases translated by example: French"]
    assert {line["name"]: [point["value"] for point in line["points"]] for line in games["curves"][0]["series"]} == {
        "translated": [0.25, 0.75], "translations shuffled": [0.5],
    }  # fmt: skip
    (letters,) = view("letters")
    assert [plot["title"] for plot in letters["curves"]] == ["Letters counted", "Sums"]
    levels = [point["level"] for line in letters["curves"][0]["series"] for point in line["points"]]
    assert levels == [None, None, "always the most common count"]
    assert ask(served, "answer-parts", view="games", outside="base")["parts"] == [
        {"part": "translation/French/2", "title": "phrases translated, by language and examples before them: French/2",
         "answers": 4, "right": 3}
    ]  # fmt: skip
    (itself,) = ask(served, "answer-parts", view="knowledge", outside="base")["parts"]
    assert (itself["answers"], itself["right"]) == (1, None)
    found = ask(served, "answers", outside="base", part="translation/French/2", offset=3)
    assert (found["total"], [row["question"] for row in found["rows"]]) == (4, ["word 3"])


def test_nothing_of_the_run_is_changed(served, run):
    def state():
        files = [file for file in sorted((run / "base").rglob("*")) if file.is_file()]
        return {file: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}

    before = state()
    served.http.get("/app/base/about")
    ask(served, "passages")
    streamed(served, "go-on", row=0, model=STAGES[0])
    ask(served, "games", group="glossary/2")
    assert state() == before


def test_rows_are_read_by_place_and_a_line_that_is_being_written_is_left_for_later(tmp_path):
    file = tmp_path / "rows.jsonl"
    rows = [{"n": n, "text": f"東京\u2028{n}"} for n in range(3)]
    write_jsonl(file, rows)
    index = JsonlIndex(file, lambda row: row["n"])
    assert index.summaries() == [0, 1, 2]
    assert index.rows([2, 0, 7, -1]) == [rows[2], rows[0]]
    with open(file, "a") as more:
        more.write(json.dumps({"n": 3})[:-1])
    assert index.summaries() == [0, 1, 2]
    with open(file, "a") as more:
        more.write("}\n")
    assert index.summaries() == [0, 1, 2, 3]
    with open(file, "a") as more:
        more.write("[]\n")
    with pytest.raises(StageError, match="line 5 is not what the stage writes"):
        index.summaries()
