"""Tools that the server runs: calls are answered here, and clients get one answer with its sources."""

import openai
import pytest
from test_serve_tools import pieces

from crawl2chat.chat.tools import call
from crawl2chat.serve.admission import Admission
from crawl2chat.serve.run_tools import RunTools

QUESTION = {"role": "user", "content": "When does the mill open?"}


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    folder = tmp_path_factory.mktemp("documents")
    (folder / "mill.txt").write_text("The mill opens at nine.")
    return folder


@pytest.fixture
def serve(start, documents):
    return lambda names, **options: start(context=2000, run_tools=RunTools(names, documents, documents, **options))


@pytest.fixture
def script(monkeypatch, tokenizer):
    """Lets the engine say these messages, one per request, and keeps the prompts."""
    prompts = []

    class Scripted:
        def __init__(self, message):
            ids, mask = tokenizer.encode_chat([message])
            mine = [id for id, is_mine in zip(ids, mask, strict=True) if is_mine]
            self.parts = pieces(mine)
            for part in self.parts:
                part.text = tokenizer.decode(id for id in part.ids if id not in tokenizer.stop_ids)

        async def deltas(self, patience):
            for part in self.parts:
                yield [(0, part)]

        def close(self):
            pass

    def admit(*messages):
        left = list(messages)

        def admitted(self, wanted, client):
            prompts.append(tokenizer.decode(wanted[0].prompt))
            return Scripted(left.pop(0))

        monkeypatch.setattr(Admission, "admit", admitted)
        return prompts

    return admit


def test_calls_are_answered_by_the_server_and_the_final_answer_streams_with_its_sources(serve, script):
    prompts = script(call("search", query="mill"), {"role": "assistant", "content": "It opens at nine [1]."})
    server = serve(["search"])
    chunks = list(server.openai.chat.completions.create(model="tiny", messages=[QUESTION], stream=True))
    text = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert "".join(text) == "It opens at nine [1]."
    assert len(text) > 3
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert chunks[-1].citations == [{"number": 1, "title": "Page", "url": "mill.txt", "cited": True}]
    assert '"name": "search"' in prompts[0]
    assert "<tool_response>\n[1] Page (mill.txt): The mill opens at nine.\n</tool_response>" in prompts[1]


def test_a_whole_answer_has_its_sources_too(serve, script):
    script(call("search"), call("calculator", expression="4+5"), {"role": "assistant", "content": "At 9."})
    answer = serve(["search", "calculator"]).openai.chat.completions.create(model="tiny", messages=[QUESTION])
    assert answer.choices[0].message.content == "At 9."
    assert answer.choices[0].message.tool_calls is None
    assert [source["cited"] for source in answer.citations] == [False]
    assert answer.usage.completion_tokens > 10


def test_with_search_always_the_model_reads_what_was_found_with_the_question(serve, script):
    prompts = script({"role": "assistant", "content": "At nine [1]."})
    answer = serve(["search"], always=True).openai.chat.completions.create(model="tiny", messages=[QUESTION])
    assert "[1] Page (mill.txt): The mill opens at nine.\n\nQuestion: When does the mill open?" in prompts[0]
    assert answer.citations[0]["cited"]


def test_tools_of_the_client_and_requests_for_none_are_left_alone(serve, script):
    server = serve(["search"])
    tools = [{"type": "function", "function": {"name": "mine"}}]
    for fields in ({"tools": tools}, {"tool_choice": "none"}, {"extra_body": {"run_tools": []}}):
        answer = server.openai.chat.completions.create(model="tiny", messages=[QUESTION], max_tokens=3, **fields)
        assert not hasattr(answer, "citations")


@pytest.mark.parametrize(
    ("names", "fields", "problem"),
    [
        (["search"], {"run_tools": ["python"]}, "does not run python; it was started with search"),
        ([], {"run_tools": ["search"]}, "it was started with none"),
        (["search"], {"n": 2}, "n: not while the server runs tools"),
        (["search"], {"logprobs": True}, "logprobs: not while"),
    ],
)
def test_what_can_not_be_had_is_refused_by_name(serve, names, fields, problem):
    with pytest.raises(openai.BadRequestError, match=problem):
        serve(names).openai.chat.completions.create(model="tiny", messages=[QUESTION], extra_body=fields)
