import pytest
import torch

from crawl2chat.chat.tools import MAX_ROUNDS, answer_with_tools, call, carry_out, final_text, offer, parse_reply
from crawl2chat.generate import Completion, Engine, Sampling
from crawl2chat.model import ModelConfig, Transformer


class Scripted:
    """Stands in for an engine: says what it was told to say, and keeps the prompts that it was given."""

    context = 1000

    def __init__(self, tokenizer, *replies):
        self.tokenizer, self.replies, self.prompts = tokenizer, list(replies), []

    def generate(self, prompts, sampling, seeds, rules):
        self.prompts.append([self.tokenizer.decode(prompt) for prompt in prompts])
        return [Completion(ids=authored(self.tokenizer, self.replies.pop(0))) for _ in prompts]


def authored(tokenizer, message):
    ids, mask = tokenizer.encode_chat([message])
    return [id for id, mine in zip(ids, mask, strict=True) if mine]


ASKED = [offer(("search",)), {"role": "user", "content": "Where is Zoë?"}]


def test_a_call_is_carried_out_and_the_answer_follows_its_result(tokenizer):
    engine = Scripted(tokenizer, call("search", query="Zoë"), {"role": "assistant", "content": "At the mill."})
    asked = []
    (added,) = answer_with_tools(
        engine, [ASKED], {"search": lambda question, query: asked.append((question, query)) or "mill"}, Sampling()
    )
    assert asked == [("Where is Zoë?", "Zoë")]
    assert [message["role"] for message in added] == ["assistant", "tool", "assistant"]
    assert added[-1]["content"] == "At the mill."
    assert "<tool_response>\nmill\n</tool_response>" in engine.prompts[1][0]


def test_a_reply_is_parsed_by_ids_and_not_by_text(tokenizer):
    written = call("search", query="Zoë </tool_call> and more")
    assert parse_reply(tokenizer, authored(tokenizer, written)) == written
    looks_like = {"role": "assistant", "content": '<tool_call>{"name": "search", "arguments": {}}</tool_call>'}
    assert parse_reply(tokenizer, authored(tokenizer, looks_like)) == looks_like


def test_a_model_that_only_calls_is_stopped(tokenizer):
    engine = Scripted(tokenizer, *[call("search", query="x")] * 20)
    (added,) = answer_with_tools(engine, [ASKED], {"search": lambda asked, query: "nothing"}, Sampling())
    assert len(engine.prompts) == 1 + MAX_ROUNDS
    assert sum(message["role"] == "tool" for message in added) == MAX_ROUNDS
    assert final_text(added) == ""


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (call("dig", where="here"), "There is no tool dig."),
        (call("search", place="here"), "The tool search does not take place."),
        (call("broken"), "It is broken."),
    ],
)
def test_a_bad_call_is_explained_to_the_model(message, told):
    def broken(asked):
        raise ValueError("It is broken.")

    tools = {"search": lambda asked, query: "found", "broken": broken}
    assert carry_out(message["tool_calls"][0], tools, "") == told


def test_a_call_that_is_no_json_is_said_to_be_so(tokenizer):
    opening, closing = (tokenizer.controls[name] for name in ("<tool_call>", "</tool_call>"))
    message = parse_reply(tokenizer, [opening, *tokenizer.encode("search Zoë"), closing, tokenizer.im_end])
    assert carry_out(message["tool_calls"][0], {}, "") == "That call is not valid JSON."


def test_a_real_engine_answers_each_conversation_as_it_would_alone(tokenizer):
    model = Transformer(ModelConfig(tokenizer.vocab_size, 32, 64, 1, 2, 2, 16, max_position_embeddings=160))
    model.init_weights(0)
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight.normal_(generator=torch.Generator().manual_seed(0))
    engine = Engine(model, tokenizer)
    conversations = [ASKED, [{"role": "user", "content": "Who?"}]]
    sampling = Sampling(temperature=0, max_tokens=10)
    together = answer_with_tools(engine, conversations, {}, sampling)
    assert together == [answer_with_tools(engine, [c], {}, sampling)[0] for c in conversations]


@pytest.mark.parametrize(
    "text", ["[" * 3000, '{"name": "search", "arguments": {"query": ' + "9" * 5000 + "}}", "[1]", "7"]
)
def test_no_json_that_a_model_may_write_is_more_than_a_broken_call(tokenizer, text):
    opening, closing = (tokenizer.controls[name] for name in ("<tool_call>", "</tool_call>"))
    message = parse_reply(tokenizer, [opening, *tokenizer.encode(text), closing, tokenizer.im_end])
    assert carry_out(message["tool_calls"][0], {"search": lambda asked, query="": "found"}, "") == (
        "That call is not valid JSON."
    )
