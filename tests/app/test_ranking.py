"""What the page Ranking asks of the server: what is shown, what is kept, and that nothing is said too early."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import threading

import httpx
import pytest
from served_runs import CONTEXT, random_model

from crawl2chat.model import load_model
from crawl2chat.rl.preferences.reward_model import RewardModel
from crawl2chat.rl.preferences.store import RankingStore
from crawl2chat.serve.app.context import RankingFiles
from crawl2chat.stages.files import StageError
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.train.pretrain import save_stage_model

PROMPTS = [f"Prompt {i}?" for i in range(6)]


@pytest.fixture
def ranked(serve, tmp_path):
    """A server with six prompts and a store of its own; every third judgement is followed by a repeat."""
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS))
    served = serve(tmp_path, context={"ranking": RankingFiles(prompts=file, repeat_every=3)})
    served.store = tmp_path / "rankings.sqlite"
    return served


def ask(served, annotator="anna", status=200, **more):
    answer = served.http.post("/app/ranking/next", json={"annotator": annotator, "answers": 3, **more})
    assert answer.status_code == status, answer.text
    return answer.json()


def judge(served, shown, annotator="anna", status=200, **more):
    body = {
        "annotator": annotator,
        "assignment": shown["assignment"]["id"],
        "verdict": "ranked",
        "seconds": 1.25,
        **more,
    }
    if body["verdict"] == "ranked":
        body.setdefault("best_first", [[2], [0, 1]])
    answer = served.http.post("/app/ranking/judge", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_answers_are_kept_before_they_are_shown_and_come_again_until_they_are_judged(ranked):
    first = ask(ranked)
    assert ask(ranked) == ask(ranked, answers=2) == first
    (kept,) = [RankingStore.read(ranked.store).waiting("anna")]
    assert [answer.text for answer in kept.answers] == [answer["text"] for answer in first["assignment"]["answers"]]
    assert first["assignment"]["messages"] == [{"role": "user", "content": "Prompt 0?"}]
    assert judge(ranked, first) == {"stored": True, "written_by": None}
    (stored,) = RankingStore.read(ranked.store).judgements()
    assert (stored.best_first, stored.seconds, stored.annotator) == (((2,), (0, 1)), 1.2, "anna")
    second = ask(ranked)
    assert second["assignment"]["id"] != first["assignment"]["id"]
    assert (second["progress"]["done"], second["progress"]["total"]) == (1, 7)


def test_who_wrote_what_is_stored_but_said_only_afterwards(ranked):
    shown = ask(ranked, sources=["sft", "tiny-prefer", "base"])
    assert set(shown["assignment"]) == {"id", "messages", "answers"}
    assert all(set(answer) == {"text", "ended"} for answer in shown["assignment"]["answers"])
    written_by = judge(ranked, shown, reveal=True)["written_by"]
    assert sorted(answer["stage"] for answer in written_by) == ["prefer", "pretrain", "sft"]
    (stored,) = RankingStore.read(ranked.store).judgements()
    assert [{"author": a.author, "stage": a.stage} for a in stored.answers] == written_by


def test_answers_are_what_the_api_draws_at_the_same_seed(ranked):
    shown = ask(ranked, sources=["sft"])["assignment"]["answers"]
    body = {
        "model": "sft",
        "messages": [{"role": "user", "content": "Prompt 0?"}],
        "max_tokens": 128,
        "seed": 0,
        "n": 3,
    }
    choices = ranked.http.post("/v1/chat/completions", json=body).json()["choices"]
    assert sorted(answer["text"] for answer in shown) == sorted(choice["message"]["content"] for choice in choices)


def test_a_whole_session_with_repeats_skips_and_undo(ranked):
    shown = []
    while (step := ask(ranked))["assignment"]:
        shown.append(step["assignment"])
        assert step["progress"] == {**step["progress"], "done": len(shown) - 1, "total": 7}
        verdict = {2: "skipped", 5: "all_bad"}.get(len(shown), "ranked")
        judge(ranked, step, verdict=verdict)
    asked = [assignment["messages"][0]["content"] for assignment in shown]
    assert [prompt for i, prompt in enumerate(asked) if i != 3] == PROMPTS
    again = asked.index(asked[3])
    assert again < 3
    texts = [[answer["text"] for answer in shown[i]["answers"]] for i in (again, 3)]
    assert sorted(texts[0]) == sorted(texts[1])
    assert texts[0] != texts[1]
    assert ask(ranked)["progress"] == {"done": 7, "total": 7, "ranked": 5, "all_bad": 1, "skipped": 1}
    assert ranked.http.post("/app/ranking/undo", json={"annotator": "anna"}).json() == {"undone": True}
    assert ask(ranked)["assignment"] == shown[-1]
    judge(ranked, ask(ranked), best_first=[[0, 1, 2]])
    last = RankingStore.read(ranked.store).judgements()[-1]
    assert (last.prompt, last.best_first) == ("Prompt 5?", ((0, 1, 2),))
    assert ranked.http.post("/app/ranking/undo", json={"annotator": "nobody"}).json() == {"undone": False}


def test_two_annotators_at_once_see_the_same_answers_and_keep_their_own(ranked):
    failed = []

    def session(name, best_first):
        try:
            with httpx.Client(base_url=ranked.url, timeout=300) as http:
                while (step := http.post("/app/ranking/next", json={"annotator": name, "answers": 3}).json())[
                    "assignment"
                ]:
                    body = {"annotator": name, "assignment": step["assignment"]["id"], "verdict": "ranked",
                            "best_first": best_first, "seconds": 1}  # fmt: skip
                    assert http.post("/app/ranking/judge", json=body).status_code == 200
        except Exception as error:
            failed.append(error)

    threads = [
        threading.Thread(target=session, args=given) for given in (("anna", [[0], [1], [2]]), ("bert", [[1, 0, 2]]))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    judged = RankingStore.read(ranked.store).judgements()
    for name, groups in (("anna", ((0,), (1,), (2,))), ("bert", ((1, 0, 2),))):
        own = [ranking for ranking in judged if ranking.annotator == name]
        assert [ranking.prompt for ranking in own if ranking.repeat_of is None] == PROMPTS
        assert len(own) == 7
        assert {ranking.best_first for ranking in own} == {groups}
    assert len({(ranking.prompt, frozenset(ranking.answers)) for ranking in judged}) == len(PROMPTS)


def test_what_can_not_be_stored_is_refused(ranked):
    shown = ask(ranked)
    for more, status, word in (
        ({"best_first": [[0], [1]]}, 409, "must name each of 3 answers once"),
        ({"verdict": "all_bad", "best_first": [[0], [1], [2]]}, 409, "must be empty"),
        ({"annotator": "bert"}, 409, "was shown to somebody else"),
        ({"assignment": 99}, 409, "there is none of this number"),
        ({"seconds": -1}, 400, "seconds = -1"),
        ({"verdict": "great"}, 400, "verdict"),
        ({"annotator": "a\nb"}, 400, "expected a name"),
        ({"annotator": " "}, 400, "expected a name"),
        ({"best_first": "ab"}, 400, "best_first"),
        ({"colour": "red"}, 400, "colour: no such field"),
    ):
        assert word in judge(ranked, shown, status=status, **more)["error"]["message"]
    judge(ranked, shown)
    assert "judged already" in judge(ranked, shown, status=409)["error"]["message"]
    assert len(RankingStore.read(ranked.store).judgements()) == 1
    assert "there is no model 'x'" in ask(ranked, status=404, sources=["x"])["error"]["message"]
    assert (
        "has 3 models for 2 answers"
        in ask(ranked, status=400, answers=2, sources=["sft", "prefer", "honesty"])["error"]["message"]
    )
    ask(ranked, status=400, answers=10)


def test_the_page_is_told_the_guidelines_and_whether_there_is_anything_to_ask(ranked, served, serve, tmp_path):
    about = ranked.http.get("/app/ranking/about").json()
    assert about["questions"] == ask(ranked)["progress"]["total"] == 7  # one of six comes twice, which must not show
    assert "tie them" in about["guidelines"]
    assert about["reward_model"] is False
    of_run = served.http.get("/app/ranking/about").json()  # the verses of its made-up web
    assert (of_run["questions"] > 6, of_run["problem"]) == (True, None)
    (tmp_path / "mine.txt").write_text("Prefer birds.")
    bare = serve(tmp_path / "model", is_run=False, context={"ranking": RankingFiles(guidelines=tmp_path / "mine.txt")})
    about = bare.http.get("/app/ranking/about").json()
    assert (about["guidelines"], about["questions"]) == ("Prefer birds.", None)
    assert "--prompts FILE" in about["problem"]
    assert "--prompts FILE" in ask(bare, status=409)["error"]["message"]
    with pytest.raises(StageError, match=r"guidelines .*none\.txt: can't be read"):
        serve(tmp_path, context={"ranking": RankingFiles(guidelines=tmp_path / "none.txt")})
    with pytest.raises(StageError, match=r"mine\.txt: line 1: is not JSON"):
        serve(tmp_path, context={"ranking": RankingFiles(prompts=tmp_path / "mine.txt")})


def test_a_store_that_can_not_be_opened_is_said_and_left_alone(ranked):
    ranked.store.write_bytes(b"not a database, but long enough to be taken for one" * 20)
    before = ranked.store.read_bytes()
    assert "can't be used as a store of rankings" in ask(ranked, status=409)["error"]["message"]
    assert ranked.store.read_bytes() == before


def test_export_and_import_are_a_round_trip(ranked, serve, tmp_path):
    for _ in range(3):
        judge(ranked, ask(ranked))
    out = ranked.http.get("/app/ranking/export/lists").json()
    assert out["count"] == 3
    other = serve(tmp_path / "other", is_run=False, context={"ranking": RankingFiles(store=tmp_path / "other.sqlite")})
    body = {"annotator": "carl", "text": out["text"]}
    assert other.http.post("/app/ranking/import", json=body).json() == {"added": 3, "known": 0}
    assert other.http.post("/app/ranking/import", json=body).json() == {"added": 0, "known": 3}
    assert other.http.get("/app/ranking/export/lists").json() == out
    pairs = ranked.http.get("/app/ranking/export/pairs").json()
    assert pairs["count"] == 6  # one before two tied ones
    assert pairs == other.http.get("/app/ranking/export/pairs").json()
    assert ranked.http.get("/app/ranking/export/x").status_code == 404
    refused = other.http.post("/app/ranking/import", json={"annotator": "carl", "text": out["text"] + "{}\n"})
    assert "line 4" in refused.json()["error"]["message"]
    assert other.http.get("/app/ranking/export/lists").json() == out


def test_agreement_with_the_reward_model_is_counted(serve, tokenizer, tmp_path):
    model = serve(tmp_path / "x", is_run=False).pool.default.engine.model
    save_stage_model(model, tokenizer, tmp_path / "run" / "prefer")
    reward_model = RewardModel.from_policy(load_model(tmp_path / "run" / "prefer"))
    reward_model.score.weight.data.normal_()
    reward_model.save(tmp_path / "run" / "prefer" / "reward_model", pad_id=0)
    shutil.copy(
        tmp_path / "run" / "prefer" / "model" / "tokenizer.json", tmp_path / "run" / "prefer" / "tokenizer.json"
    )
    assert Tokenizer.load(tmp_path / "run" / "prefer").vocab_size == tokenizer.vocab_size
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS))
    served = serve(tmp_path / "run", context={"ranking": RankingFiles(prompts=file, repeat_every=2)})
    assert served.http.get("/app/ranking/about").json()["reward_model"] is True
    assert served.http.get("/app/ranking/agreement").json()["with_reward_model"] == []
    for _ in range(4):
        judge(served, ask(served), best_first=[[0], [1], [2]])
        judge(served, ask(served, "bert"), "bert", best_first=[[0], [1], [2]])
    found = served.http.get("/app/ranking/agreement").json()
    store = RankingStore.read(tmp_path / "run" / "rankings.sqlite")
    expected = 0
    fitted = RewardModel.load(tmp_path / "run" / "prefer" / "reward_model")
    for ranking in store.judgements("anna"):
        if ranking.repeat_of is None:
            ids = tokenizer.encode_chat(ranking.asked.messages, add_generation_prompt=True)[0]
            ends = [[tokenizer.end_of_turn] if answer.ended else [] for answer in ranking.answers]
            rewards = fitted.rewards([
                [*ids, *tokenizer.encode(a.text), *end][:CONTEXT] for a, end in zip(ranking.answers, ends, strict=True)
            ])  # fmt: skip
            expected += sum(rewards[i] > rewards[j] for i, j in ((0, 1), (0, 2), (1, 2)))
    (anna, bert) = found["with_reward_model"]
    assert (anna["name"], bert["name"]) == ("anna", "bert")
    assert (anna["prompts"], anna["pairs"], anna["same"]) == (3, 9, expected)
    assert [row["prompts"] for row in found["with_oneself"]] == [1, 1]
    assert found["between"][0]["prompts"] == 3
    assert found["alpha"]["count"] == 3


def test_a_server_that_is_killed_leaves_exactly_what_was_confirmed(tokenizer, tmp_path):
    folder, file = tmp_path / "tiny", tmp_path / "prompts.jsonl"
    save_stage_model(random_model(tokenizer.vocab_size, 0), tokenizer, folder)
    file.write_text("".join(json.dumps({"prompt": f"Prompt {i}?"}) + "\n" for i in range(200)))
    command = [
        sys.executable,
        "-m",
        "crawl2chat",
        "serve",
        str(folder / "model"),
        "--port",
        "0",
        "--prompts",
        str(file),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        url = next(line.split()[-1] for line in process.stdout if line.startswith("web app"))
        confirmed, underway = {}, {}
        enough = threading.Barrier(3, timeout=120)

        def session(name):
            """Judges, each time with another order, until the server is gone."""
            confirmed[name] = []
            with httpx.Client(base_url=url, timeout=60) as http, contextlib.suppress(httpx.TransportError):
                for number in range(200):
                    shown = http.post("/app/ranking/next", json={"annotator": name, "answers": 3}).json()["assignment"]
                    body = {"annotator": name, "assignment": shown["id"], "verdict": "ranked", "seconds": number,
                            "best_first": [[number % 3], [(number + 1) % 3, (number + 2) % 3]]}  # fmt: skip
                    underway[name] = body
                    assert http.post("/app/ranking/judge", json=body).status_code == 200
                    confirmed[name].append(body)
                    if number == 4:
                        enough.wait()

        threads = [threading.Thread(target=session, args=(name,)) for name in ("anna", "bert")]
        for thread in threads:
            thread.start()
        enough.wait()
    finally:
        process.kill()
    for thread in threads:
        thread.join()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    store = RankingStore(folder / "model" / "rankings.sqlite")
    assert store.connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    for name in ("anna", "bert"):
        told = [(r.id, [list(group) for group in r.best_first], r.seconds) for r in store.judgements(name)]
        sent = [(body["assignment"], body["best_first"], body["seconds"]) for body in confirmed[name]]
        last = underway[name]
        in_flight = (last["assignment"], last["best_first"], last["seconds"])  # it may have been stored, but not said
        assert len(sent) >= 5
        assert told in (sent, [*sent, in_flight])
