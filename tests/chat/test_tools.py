import math
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from crawl2chat.chat.tools import (
    BROKEN_CALL,
    MAX_ROUNDS,
    THINKING,
    answer_with_tools,
    begins_call,
    call,
    carry_out,
    final_text,
    offer,
    parse_reply,
    question_of,
    quoting,
    rollout_with_tools,
    sayable,
    spoken,
)
from crawl2chat.generate import Completion, Engine, Sampling
from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.tokenizer.tokenizer import TOOL_CALL


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


@pytest.mark.parametrize(
    ("asked", "question"),
    [
        (["Where was Ann Low born?", "And what is her trade?"], "Where was Ann Low born? And what is her trade?"),
        (["Where was Ann Low born?", "When?", "I see. And his pet?"], "Where was Ann Low born? I see. And his pet?"),
        (["Where was Ann Low born?", "What is Bo Lind's trade?"], "What is Bo Lind's trade?"),
        (["Where was Ann Low born?", "What is 2+2?"], "What is 2+2?"),  # not about her
        (["Who is she?"], "Who is she?"),
        ([], ""),
    ],
)
def test_what_is_looked_up_is_the_last_question_with_the_name_that_it_leaves_out(asked, question):
    messages = [{"role": "user", "content": text} for text in asked]
    assert question_of(messages) == question


def test_what_an_answer_says_of_an_earlier_page_is_quoted_and_all_else_is_free(tokenizer):
    said = [
        {"role": "tool", "content": "Page 12: Ann is a baker."},
        {"role": "assistant", "content": "Page 12 says: x."},
    ]
    later = quoting(tokenizer, [*said, {"role": "user", "content": "And then?"}])
    quoted = later(tokenizer.encode("Page 12 says:"))
    assert quoted
    assert {tokenizer.decode([id]).strip() for id in quoted} <= set("Ann is a baker".split()) | set("Anisbkre")
    assert later(tokenizer.encode("A story: once")) is None
    assert quoting(tokenizer, said[:1])(tokenizer.encode("A story:")) is not None  # right after the page
    assert quoting(tokenizer, [*said, {"role": "tool", "content": "Nothing found."}]) is None


def test_only_the_tags_that_an_answer_may_need_are_left(tokenizer):
    bias = sayable(tokenizer, Sampling(logit_bias={5: 1.0}), calls=False).logit_bias
    never = {id for id, value in bias.items() if value == -math.inf}
    assert bias[5] == 1.0
    assert never == set(tokenizer.controls.values()) - tokenizer.stop_ids - {tokenizer.controls[n] for n in THINKING}
    with_calls = sayable(tokenizer, Sampling(), calls=True).logit_bias
    assert never - set(with_calls) == {tokenizer.controls[name] for name in TOOL_CALL}
    forced = Sampling(logit_bias={tokenizer.controls[TOOL_CALL[0]]: 100.0})
    assert sayable(tokenizer, forced, calls=False).logit_bias[tokenizer.controls[TOOL_CALL[0]]] == -math.inf


@pytest.mark.parametrize("tag", TOOL_CALL)
def test_from_the_first_tag_on_nothing_is_spoken(tokenizer, tag):
    ids = [*tokenizer.encode("I look."), tokenizer.controls[tag], *tokenizer.encode('{"name"')]
    assert spoken(tokenizer, ids, tokenizer.decode(ids)) == "I look."


WORDS = '{"name": "search", "arguments": {"query": "Kes"}}'


def test_an_answer_that_is_nothing_but_a_call_in_words_is_one_and_is_not_spoken(tokenizer):
    ids = tokenizer.encode(WORDS)
    assert parse_reply(tokenizer, ids) == call("search", query="Kes")
    assert {spoken(tokenizer, ids[:n], tokenizer.decode(ids[:n])) for n in range(len(ids) + 1)} == {""}
    cut = tokenizer.encode(WORDS[:-4])
    assert begins_call(tokenizer, cut, WORDS[:-4])
    assert parse_reply(tokenizer, cut)["tool_calls"][0]["function"]["name"] == BROKEN_CALL
    for text in ('{"name": "Kes", "age": 3}', f"It is {WORDS}"):  # answers in JSON or about a call
        assert parse_reply(tokenizer, tokenizer.encode(text)) == {"role": "assistant", "content": text}
        assert not begins_call(tokenizer, tokenizer.encode(text), text)


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
    message = parse_reply(tokenizer, [opening, *tokenizer.encode("search Zoë"), closing, tokenizer.end_of_turn])
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
    message = parse_reply(tokenizer, [opening, *tokenizer.encode(text), closing, tokenizer.end_of_turn])
    assert carry_out(message["tool_calls"][0], {"search": lambda asked, query="": "found"}, "") == (
        "That call is not valid JSON."
    )


class Drawing(Scripted):
    """Says what it was told to, each id with a log-probability of its own."""

    def generate(self, prompts, sampling, seeds, rules=None):
        completions = super().generate(prompts, sampling, seeds, rules)
        for completion in completions:
            completion.logprobs = [-float(i + 1) for i in range(len(completion.ids))]
            completion.finish_reason = "stop"
        return completions


def test_in_a_rollout_only_what_the_model_wrote_is_learned_with_the_probability_it_was_drawn_with(tokenizer):
    first, last = call("search", query="Zoë"), {"role": "assistant", "content": "At the mill."}
    engine = Drawing(tokenizer, first, last)
    result = {"role": "tool", "content": "mill"}
    (rollout,) = rollout_with_tools(engine, [ASKED], {"search": lambda asked, query: "mill"}, Sampling(), [7])
    ids, mask = tokenizer.encode_chat([*ASKED, first, result, last])
    (episode,) = rollout.episodes
    assert rollout.ended
    assert episode.ids == ids[: len(episode.ids)]  # up to the end of the turn, without the line end behind it
    assert episode.is_model == mask[: len(episode.ids)]
    written = [p for p, is_model in zip(episode.logprobs, episode.is_model, strict=True) if is_model]
    sizes = [len(authored(tokenizer, message)) for message in (first, last)]
    assert written == [-float(i + 1) for n in sizes for i in range(n)]
    assert all(p == 0 for p, is_model in zip(episode.logprobs, episode.is_model, strict=True) if not is_model)


def test_where_the_models_words_are_read_in_another_form_a_new_episode_begins(tokenizer):
    first, last = call("search", query="x"), {"role": "assistant", "content": "So."}
    engine = Drawing(tokenizer, first, last)
    odd = [
        *authored(tokenizer, first)[:-1],
        *tokenizer.encode("  "),
        tokenizer.end_of_turn,
    ]  # the template has no spaces
    generate = engine.generate
    engine.generate = lambda *a, **b: [
        Completion(ids=odd, logprobs=[0.0] * len(odd), finish_reason="stop")
        if not engine.prompts[1:] and c.ids != odd
        else c
        for c in generate(*a, **b)
    ]
    (rollout,) = rollout_with_tools(engine, [ASKED], {"search": lambda asked, query: "y"}, Sampling(), [0])
    assert len(rollout.episodes) == 2
    assert sum(rollout.episodes[0].is_model) == len(odd)
    prompt = tokenizer.encode_chat([*ASKED, *rollout.added[:2]], add_generation_prompt=True)[0]
    assert rollout.episodes[1].ids[: len(prompt)] == prompt
    assert sum(rollout.episodes[1].is_model[: len(prompt)]) == 0


def test_a_rollout_that_only_calls_ends_without_an_answer_and_learns_from_its_calls(tokenizer):
    engine = Drawing(tokenizer, *[call("search", query="x")] * 20)
    (rollout,) = rollout_with_tools(
        engine, [ASKED], {"search": lambda asked, query: "y"}, Sampling(), [0], max_rounds=2
    )
    assert not rollout.ended
    assert [message["role"] for message in rollout.added] == ["assistant", "tool"] * 2 + ["assistant"]
    assert sum(map(sum, (e.is_model for e in rollout.episodes))) == 3 * len(
        authored(tokenizer, call("search", query="x"))
    )


@pytest.mark.parametrize(
    ("template", "answer", "said"),
    [
        ("<tool_call>", 'Let me see.<tool_call>{"name": "search"}</tool_call>', "Let me see."),
        ("<tool_call>", "a < b <tool", "a < b "),
        ('"parameters"', '{"name": "search", "parameters": {}}', ""),
        ('"parameters"', "Fine.", "Fine."),
        ("", "{Fine.", "{Fine."),
    ],
)
def test_a_call_in_words_is_not_spoken(tokenizer, template, answer, said):
    plain = SimpleNamespace(controls={}, template=SimpleNamespace(source=template), decode=tokenizer.decode)
    ids = tokenizer.encode(answer)
    assert spoken(plain, ids, answer) == said
    grown = [spoken(plain, ids, answer[:n]) for n in range(len(answer) + 1)]
    assert all(after.startswith(before) for before, after in pairwise(grown))
