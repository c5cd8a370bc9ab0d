import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from asked_server import AskedServer, Reply, says, serving

from crawl2chat.cli.main import main
from crawl2chat.refine.quality.classify import load_classifier
from crawl2chat.refine.quality.judge import judge_files, read_score
from crawl2chat.stages.chat_server import ChatServer
from crawl2chat.stages.files import StageError


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[str], Reply]], AskedServer]]:
    """Start a server that answers about the page in a question; `pages` counts how often it was asked about each."""
    with ExitStack() as servers:

        def start(reply: Callable[[str], Reply]) -> AskedServer:
            pages = Counter[str]()

            def answer(body: dict[str, Any]) -> Reply:
                page = body["messages"][0]["content"].partition("<page>\n")[2].partition("\n</page>")[0]
                pages[page] += 1
                return reply(page)

            server = servers.enter_context(serving(answer))
            server.pages = pages  # type: ignore[attr-defined]
            return server

        yield start


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps({"id": f"d{i}", "text": f"Text {i}"}) + "\n" for i in range(30)))
    return file


def labels(out: Path) -> list[dict]:  # type: ignore[type-arg]
    return [json.loads(line) for line in out.read_text().splitlines()]


def quick(server: AskedServer) -> ChatServer:
    return ChatServer(server.url, "some-model", first_wait=0.01)


def by_number(text: str) -> Reply:
    return says(f"It tells of {text}.\nScore: {int(text.split()[1]) % 6}")


def test_the_command_writes_a_score_and_a_reason_for_each_text(serve, documents, tmp_path, capsys, monkeypatch):
    server, out = serve(by_number), tmp_path / "new" / "labels.jsonl"
    monkeypatch.setenv("JUDGE_KEY", "secret")
    command = ["judge", str(documents), "--url", server.url, "--model", "m", "--out", str(out)]
    assert main([*command, "--key-variable", "JUDGE_KEY"]) == 0
    assert "30 scored, 0 unscored, 0 unanswered" in capsys.readouterr().out
    assert labels(out) == [
        {"id": f"d{i}", "score": i % 6, "reason": f"It tells of Text {i}.\nScore: {i % 6}", "text": f"Text {i}"}
        for i in range(30)
    ]
    assert set(server.headers_seen) == {("/v1/chat/completions", "m", "Bearer secret")}
    assert main([*command, "--key-variable", "NO_SUCH_KEY"]) == 1
    assert "NO_SUCH_KEY: there is no such environment variable" in capsys.readouterr().err


def test_what_is_labelled_is_not_asked_again_and_half_a_line_is_no_label(serve, documents, tmp_path):
    server, out = serve(by_number), tmp_path / "labels.jsonl"
    judge_files([documents], quick(server), out)
    whole = out.read_bytes()
    lines = whole.splitlines(keepends=True)
    out.write_bytes(b"".join(lines[:20]) + lines[20][:25])
    server.pages.clear()
    assert judge_files([documents], quick(server), out) == {"scored": 10, "unscored": 0, "unanswered": 0}
    assert out.read_bytes() == whole
    assert server.pages == {f"Text {i}": 1 for i in range(20, 30)}


@pytest.mark.parametrize("content", ["not labels", '{"name": 1}\n', "a\nb\n"])
def test_a_file_that_holds_something_else_is_not_touched(content, serve, documents, tmp_path):
    out = tmp_path / "mine"
    out.write_text(content)
    with pytest.raises(StageError, match="something other than labels"):
        judge_files([documents], quick(serve(by_number)), out)
    assert out.read_text() == content


def test_a_sample_is_the_same_again_and_part_of_a_larger_one(serve, documents, tmp_path):
    server = serve(by_number)
    for name, size in (("a", 5), ("b", 5), ("c", 12)):
        judge_files([documents], quick(server), tmp_path / name, sample=size)
    a, b, c = ({label["id"] for label in labels(tmp_path / name)} for name in "abc")
    assert (len(a), len(c)) == (5, 12)
    assert a == b < c


def test_answers_without_a_score_are_kept_as_they_are(serve, documents, tmp_path):
    server, out = serve(lambda text: says("I would rather not.") if "7" in text else by_number(text)), tmp_path / "out"
    assert judge_files([documents], quick(server), out) == {"scored": 27, "unscored": 3, "unanswered": 0}
    unscored = [label for label in labels(out) if label["score"] is None]
    assert [(label["id"], label["reason"]) for label in unscored] == [
        (f"d{i}", "I would rather not.") for i in (7, 17, 27)
    ]


@pytest.mark.parametrize("failure", [(500, ""), (429, "slow down"), (200, "no JSON"), (200, '{"choices": []}')])
def test_a_server_that_fails_now_and_then_is_asked_again(failure, serve, documents, tmp_path):
    fails = Counter[str]()

    def reply(text: str) -> Reply:
        fails[text] += 1
        return failure if fails[text] < 3 else by_number(text)

    server, out = serve(reply), tmp_path / "out"
    assert judge_files([documents], quick(server), out)["scored"] == 30
    assert set(server.pages.values()) == {3}


def test_a_text_that_gets_no_answer_is_counted_and_asked_by_the_next_run(serve, documents, tmp_path):
    broken, out = {"Text 3"}, tmp_path / "out"
    server = serve(lambda text: (503, "busy") if text in broken else by_number(text))
    assert judge_files([documents], quick(server), out) == {"scored": 29, "unscored": 0, "unanswered": 1}
    assert server.pages["Text 3"] == 4
    broken.clear()
    assert judge_files([documents], quick(server), out) == {"scored": 1, "unscored": 0, "unanswered": 0}


def test_a_text_that_the_server_can_not_take_is_recorded_and_not_asked_again(serve, documents, tmp_path):
    server = serve(lambda text: (400, "too long") if text == "Text 3" else by_number(text))
    judge_files([documents], quick(server), tmp_path / "out")
    [label] = [label for label in labels(tmp_path / "out") if label["score"] is None]
    assert (label["id"], label["reason"]) == ("d3", "no answer: HTTP 400 Bad Request: too long")
    assert server.pages["Text 3"] == 1


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ((401, "wrong key"), r"refuses to answer as some-model: HTTP 401 .*wrong key"),
        ((404, "no such model"), "HTTP 404"),
        ((503, "busy"), "no score from .* 20 times in a row; .* HTTP 503"),
        ((400, "no temperature"), "20 times in a row; .* no temperature"),
        (says("?"), "20 times in a row"),
    ],
)
def test_a_server_that_never_helps_ends_it(reply, expected, serve, documents, tmp_path):
    server = serve(lambda text: reply)
    with pytest.raises(StageError, match=expected):
        judge_files([documents], quick(server), tmp_path / "out")


def test_a_server_that_hangs_or_is_not_there_is_given_up(serve, documents, tmp_path):
    def hang(text: str) -> Reply:
        time.sleep(0.3)
        return by_number(text)

    for url in (serve(hang).url, "http://127.0.0.1:9/v1"):
        judge = ChatServer(url, "m", timeout=0.05, first_wait=0.001)
        with pytest.raises(StageError, match="20 times in a row"):
            judge_files([documents], judge, tmp_path / "out", threads=20)
    with pytest.raises(StageError, match="expected http"):
        judge_files([documents], ChatServer("file:///etc", "m"), tmp_path / "out")


def test_as_many_questions_as_threads_are_asked_at_a_time(serve, documents, tmp_path):
    def slow(text: str) -> Reply:
        time.sleep(0.05)
        return by_number(text)

    server = serve(slow)
    judge_files([documents], quick(server), tmp_path / "out", threads=6)
    assert 1 < server.most_at_once <= 6


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("Fine.\nScore: 3", 3),
        ("**Score:** 4/5", 4),
        ("<think>score: 1?</think> Good. score: 5.", 5),
        ('{"reason": "x", "score": 0}', 0),
        ("Score: 7", None),
        ("Score: 3.5", None),
        ("Score: 10", None),
        ("Score: -1", None),
        ("3", None),
        ("", None),
    ],
)
def test_the_score_is_the_last_that_is_named(answer, score):
    assert read_score(answer) == score


def test_a_text_can_not_change_the_question_and_long_ones_are_cut(serve, tmp_path):
    file = tmp_path / "t.jsonl"
    file.write_text(json.dumps({"text": "{text} {0} %s" + "x" * 100_000}) + "\n")
    server = serve(lambda text: says("Score: 1"))
    judge_files([file], quick(server), tmp_path / "out")
    [text] = server.pages
    assert text.startswith("{text} {0} %sxxx")
    assert len(text) == 6000
    assert len(labels(tmp_path / "out")[0]["text"]) > 100_000


def test_a_classifier_can_be_trained_from_what_the_judge_wrote(serve, tmp_path, capsys):
    file, out = tmp_path / "texts.jsonl", tmp_path / "labels.jsonl"
    texts = [f"{'a lesson on light' if i % 2 else 'a cheap offer'} number {i} \u2028 {i * 7} times" for i in range(60)]
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    server = serve(lambda text: says(f"Half a pair: \ud800. Score: {4 if 'lesson' in text else 1}"))
    judge_files([file], quick(server), out)
    assert main(["classify", "--labels", str(out), "--threshold", "3", "--out", str(tmp_path / "model")]) == 0
    assert "trained on 27 positive and 27 negative texts" in capsys.readouterr().out
    model = load_classifier(str(tmp_path / "model"))
    assert model.score("a lesson on light") > 0 > model.score("a cheap offer")
