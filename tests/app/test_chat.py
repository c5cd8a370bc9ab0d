"""What the page Chat asks the server for."""

import json
import threading

import pytest
from talking import DOCUMENTS, EVIL, PLACE, SENTENCE, call, offers_of, write_run

from crawl2chat.chat.conversations import read_conversations
from crawl2chat.chat.talk import Talk
from crawl2chat.generate import Sampling

QUESTION = {"role": "user", "content": "Who is Ann?"}


@pytest.fixture(scope="module")
def context(serve, tokenizer, tmp_path_factory):
    """A server of a run with documents."""
    folder = write_run(tmp_path_factory.mktemp("runs") / "laptop")
    return serve(folder, models=offers_of(tokenizer, lambda stage, text: "Well."))


def events(served, path, body):
    """The events of a stream, without the one that ends it."""
    lines = served.http.post(path, json=body).text.split("\n\n")
    found = [line.removeprefix("data: ") for line in lines if line]
    assert found[-1] == "[DONE]"
    return [json.loads(line) for line in found[:-1]]


def test_the_setup_has_presets_of_the_models_that_are_there(served, context):
    told = served.http.get("/app/chat/setup").json()
    assert {"Somebody well known", "Nobody"} <= {preset["name"] for preset in told["presets"]}
    stages = {column["stage"] for preset in told["presets"] for column in preset["columns"]}
    assert stages == {"pretrain", "sft", "honesty", "reinforce", "prefer"}
    assert [tool["function"]["name"] for tool in told["tools"]] == ["calculator"]
    assert not told["documents"]
    other = context.http.get("/app/chat/setup").json()
    assert [tool["function"]["name"] for tool in other["tools"]] == ["calculator", "search"]
    assert other["documents"]


def test_tools_give_what_they_give_in_the_terminal(context):
    def result(name, asked="", **arguments):
        body = {"name": name, "arguments": arguments, "asked": asked}
        return context.http.post("/app/chat/tool", json=body).json()

    assert result("calculator", expression="347+586") == {"result": "933", "page": None, "address": None}
    found = result("search", "Who is the roofer Ann?")
    assert found["page"] == 3
    assert found["address"] == DOCUMENTS[2].url
    assert found["result"].startswith("Page 3: Ann Aby is a roofer.")
    assert found["result"].endswith("\nWho is the roofer Ann?")
    assert result("search", query="Nobody Whosoever")["result"] == "Nothing found."
    assert "did not expect )" in result("calculator", expression="1)")["result"]
    assert result("shell", command="ls")["result"] == "There is no tool shell."
    assert result("not_json", text="{")["result"] == "That call is not valid JSON."


def test_the_newest_turns_that_fit_are_read(context):
    long = {"role": "user", "content": "mill " * 30}
    said = {"role": "assistant", "content": "Well."}
    messages = [{"role": "system", "content": "Be short."}, *[long, said] * 4, QUESTION]
    fit = context.http.post("/app/chat/fit", json={"messages": messages}).json()
    left = [messages[0], *messages[1 + fit["left_out"] :]]
    assert 0 < fit["left_out"] < 8
    assert left[1]["role"] == "user"
    engine = context.pool.default.engine
    tokens = len(Talk(engine, Sampling()).prompt(left))
    assert fit["tokens"] == tokens <= engine.context // 2
    more = [messages[0], *messages[fit["left_out"] - 1 :]]
    assert len(Talk(engine, Sampling()).prompt(more)) > engine.context // 2
    assert context.http.post("/app/chat/fit", json={"messages": [QUESTION]}).json()["left_out"] == 0
    assert context.http.post("/v1/chat/completions", json={"messages": left}).status_code == 200


def test_an_answer_that_goes_on_counts_what_there_is_of_it(context):
    begun = {"role": "assistant", "content": "The miller"}
    body = {"messages": [QUESTION, begun], "continue_final_message": True}
    fit = context.http.post("/app/chat/fit", json=body).json()
    talk = Talk(context.pool.default.engine, Sampling())
    assert fit == {"left_out": 0, "tokens": len(talk.prompt([QUESTION], "The miller"))}
    long = {"role": "user", "content": "mill " * 30}
    body["messages"] = [*[long, begun] * 4, QUESTION, begun]
    assert 0 < context.http.post("/app/chat/fit", json=body).json()["left_out"] < 9


def test_one_turn_may_take_all_but_the_last_token(context):
    engine = context.pool.default.engine
    empty = len(Talk(engine, Sampling()).prompt([{"role": "user", "content": ""}]))
    text = "\n\t" * 300

    def fit(n):
        content = engine.tokenizer.decode(engine.tokenizer.encode(text)[:n])
        return context.http.post("/app/chat/fit", json={"messages": [{"role": "user", "content": content}]})

    most = next(n for n in range(engine.context - empty, 0, -1) if fit(n).status_code == 200)
    assert fit(most).json() == {"left_out": 0, "tokens": engine.context - 1}
    assert fit(most + 1).json()["error"]["code"] == "context_length_exceeded"


def test_tools_that_a_model_was_not_taught_are_refused_before_their_length_is(context):
    """With their descriptions the prompt would not fit either, which is not what the user can mend."""
    tools = context.http.get("/app/chat/setup").json()["tools"]
    body = {"model": "sft", "messages": [QUESTION], "tools": tools}
    assert "has not been taught to call any" in context.http.post("/app/chat/fit", json=body).json()["error"]["message"]
    assert context.http.post("/app/chat/fit", json=body | {"model": "honesty"}).status_code == 200


def test_an_answer_is_traced_to_the_documents_and_to_what_was_taught(context):
    text = f"They say: {SENTENCE} I am sorry, but I do not know that."
    found = events(context, "/app/chat/trace", {"text": text, "model": "honesty", "min_words": 6})[-1]["found"]
    (match,) = found["documents"]["matches"]
    assert (match["url"], match["quoted"], match["before"]) == (PLACE, SENTENCE, f"{EVIL}\n")
    assert match["after"] == f" {EVIL}"
    assert found["documents"]["read"] == len(DOCUMENTS)
    assert [match["words"] for match in found["conversations"]["matches"]] == [9]
    assert events(context, "/app/chat/trace", {"text": text, "model": "base"})[-1]["found"]["conversations"] is None


def test_where_there_are_no_documents_that_is_said(served):
    refused = served.http.post("/app/chat/trace", json={"text": "a"})
    assert refused.status_code == 404
    assert "no training documents" in refused.json()["error"]["message"]


def test_answers_go_on_while_one_is_traced(context):
    """Both look-ups wait for one process, and the server for neither."""
    done = []
    body = {"text": SENTENCE, "model": "honesty"}
    threads = [threading.Thread(target=lambda: done.append(events(context, "/app/chat/trace", body))) for _ in "ab"]
    for thread in threads:
        thread.start()
    assert context.http.post("/v1/chat/completions", json={"messages": [QUESTION]}).status_code == 200
    for thread in threads:
        thread.join()
    assert [told[-1]["found"]["documents"]["covered"] for told in done] == [14, 14]
    assert any(event == {"waiting": True} for told in done for event in told)


def test_pieces_are_text_or_bytes_and_control_tokens_are_marked(context):
    tokenizer = context.pool.default.model.tokenizer
    ids = [tokenizer.controls["<|im_start|>"], *tokenizer.encode("a ॐ")]
    pieces = context.http.post("/app/tokens/texts", json={"ids": ids}).json()["tokens"]
    assert [piece["id"] for piece in pieces] == ids
    assert (pieces[0]["text"], pieces[0]["control"]) == ("<|im_start|>", True)
    content = b"".join(bytes.fromhex(p["bytes"]) if p["text"] is None else p["text"].encode() for p in pieces[1:])
    assert content.decode() == "a ॐ"
    assert any(piece["text"] is None for piece in pieces)
    assert not any(piece["control"] for piece in pieces[1:])
    assert context.http.post("/app/tokens/texts", json={"ids": [10**6]}).status_code == 400


CONVERSATIONS = [
    [{"role": "system", "content": "Be short."}, QUESTION, {"role": "assistant", "content": EVIL}],
    [QUESTION, call("search", query="Ann"), {"role": "tool", "content": "Page 3: a roofer."},
     {"role": "assistant", "content": "Page 3 says: a roofer.\n"}],
]  # fmt: skip


def test_what_is_exported_is_what_sft_reads_and_comes_back(context, tmp_path):
    sent = [{"messages": messages} for messages in CONVERSATIONS]
    content = context.http.post("/app/chat/export", json={"conversations": sent}).json()["content"]
    file = tmp_path / "out.jsonl"
    file.write_text(content, encoding="utf-8")
    assert read_conversations(file) == CONVERSATIONS
    back = context.http.post("/app/chat/import", json={"name": "out.jsonl", "content": content}).json()
    assert back == {"conversations": CONVERSATIONS, "remarks": back["remarks"]}


def test_offered_tools_stay_with_an_exported_conversation(context, tmp_path):
    tools = context.http.get("/app/chat/setup").json()["tools"]
    sent = [{"messages": CONVERSATIONS[1], "tools": tools}]
    file = tmp_path / "out.jsonl"
    file.write_text(context.http.post("/app/chat/export", json={"conversations": sent}).json()["content"])
    (read,) = read_conversations(file)
    assert [tool["function"]["name"] for tool in read[0]["tools"]] == ["calculator", "search"]
    assert read[1:] == CONVERSATIONS[1]


def test_what_can_not_be_read_is_named_by_line_and_by_the_files_own_name(context):
    good = json.dumps({"messages": CONVERSATIONS[0]})
    content = f'{good}\n{{"messages": [{{"role": "cook", "content": "x"}}]}}\n'
    refused = context.http.post("/app/chat/import", json={"name": "../a<b>.jsonl", "content": content})
    assert refused.status_code == 400
    message = refused.json()["error"]["message"]
    assert message.startswith("a<b>.jsonl: 1 bad line of 2")
    assert "line 2: message 1: role" in message
    assert "/tmp" not in message
    unanswered = context.http.post("/app/chat/export", json={"conversations": [{"messages": [QUESTION]}]})
    assert "no assistant message" in unanswered.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("tool", {"name": "calculator", "arguments": [], "asked": ""}, "arguments"),
        ("tool", {"name": "search", "arguments": {}, "asked": "a" * 10_001}, "asked"),
        ("trace", {"text": ""}, "text"),
        ("trace", {"text": "a", "min_words": 1}, "min_words"),
        ("trace", {"text": "a", "words": 5}, "words: no such field"),
        ("export", {"conversations": []}, "conversations"),
        ("fit", {"messages": []}, "messages"),
    ],
)
def test_bad_requests_are_refused_by_name(context, path, body, told):
    refused = context.http.post(f"/app/chat/{path}", json=body)
    assert refused.status_code == 400
    assert told in refused.json()["error"]["message"]
