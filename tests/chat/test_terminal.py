import json
import math
import signal
from dataclasses import replace

import pytest
import torch
from scripted_engine import ScriptedEngine

from crawl2chat.chat.conversations import read_conversations
from crawl2chat.chat.dialogue import Dialogue, heard_interrupts
from crawl2chat.chat.talk import Talk, fit_context
from crawl2chat.chat.terminal import chat
from crawl2chat.chat.tools import THINKING, answer_with_tools, call, sayable
from crawl2chat.generate import Engine, Sampling
from crawl2chat.model import ModelConfig, Transformer

GREEDY = Sampling(temperature=0)


@pytest.fixture(scope="module")
def engine(tokenizer):
    model = Transformer(ModelConfig(tokenizer.vocab_size, 32, 64, 1, 2, 2, 16, max_position_embeddings=80))
    model.init_weights(0)
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight.normal_(generator=torch.Generator().manual_seed(0))
    return Engine(model, tokenizer)


def say(*lines):
    waiting = list(lines)

    def read(prompt):
        if not waiting:
            raise EOFError
        if isinstance(waiting[0], type):
            raise waiting.pop(0)
        return waiting.pop(0)

    return read


def asked_for(request):
    """A request's sampling without the control tokens that no answer may hold."""
    bias = {id: value for id, value in request.sampling.logit_bias.items() if value != -math.inf}
    return replace(request.sampling, logit_bias=bias)


def hold(engine, *lines, sampling=GREEDY, **options):
    """A chat of these lines; returns what the engine was asked."""
    chat(Talk(engine, sampling), read=say(*lines), **options)
    return engine.requests


def questions(request):
    """What the user said in a prompt."""
    return [turn.split("<|im_end|>")[0] for turn in request.prompt.split("<|im_start|>user\n")[1:]]


def test_a_long_chat_goes_on_and_says_what_it_leaves_out(engine, capsys):
    chat(Talk(engine, Sampling(max_tokens=12, seed=1)), read=say(*["Tell me of the mill and of the bridge."] * 6))
    shown = capsys.readouterr().out
    assert shown.count("bot> ") == 6
    assert "no longer fit the context and are left out" in shown


def test_a_message_longer_than_the_context_is_refused_and_the_chat_goes_on(engine, capsys):
    chat(Talk(engine, Sampling(max_tokens=4)), read=say("mill " * 200, "/edit shorter", "mill " * 200, "short"))
    shown = capsys.readouterr().out
    assert shown.count("too long for this model's context of 80 tokens") == 2
    assert shown.count("bot> ") == 2


def test_a_system_message_that_leaves_no_room_is_named(engine, capsys):
    chat(Talk(engine, Sampling(max_tokens=4)), read=say("short", '/system ""', "/retry"), system="mill " * 200)
    shown = capsys.readouterr().out
    assert shown.count("/edit shortens the question, /system the system message") == 1
    assert shown.count("bot> ") == 1


def test_commands_are_not_sent_to_the_model(engine, capsys):
    chat(Talk(engine, Sampling(max_tokens=4)), read=say("/help", "/nonsense", "", "/quit", "never reached"))
    shown = capsys.readouterr().out
    assert "bot> " not in shown
    assert "/nonsense: no such command" in shown


def test_what_is_left_of_a_long_history_begins_with_a_user_and_fits(engine):
    history = []
    for i in range(10):
        history += [{"role": "user", "content": f"question {i}"}, {"role": "assistant", "content": "an answer"}]
    history.append({"role": "user", "content": "and now?"})
    opening = [{"role": "system", "content": "Be kind."}]
    talk = Talk(engine, Sampling(max_tokens=20))
    kept = fit_context(talk, opening, history)
    assert kept[0]["role"] == "user"
    assert kept == history[-len(kept) :]
    room = engine.context - 20
    assert len(talk.prompt([*opening, *kept])) <= room
    assert len(talk.prompt([*opening, *history[-len(kept) - 2 :]])) > room  # one turn more would not


def test_a_base_model_is_given_a_page_to_go_on_with(engine, capsys):
    talk = Talk(engine, Sampling(max_tokens=6), base=True)
    asked = [{"role": "user", "content": "Where is\nthe mill?"}]
    prompt = talk.prompt([*asked, {"role": "assistant", "content": "There."}, *asked])
    assert prompt[0] == engine.tokenizer.end_of_text
    assert engine.tokenizer.decode(prompt).endswith(
        "\nUser: Where is the mill?\nAssistant: There.\nUser: Where is the mill?\nAssistant:"
    )
    chat(talk, read=say("Where?"))
    assert "bot> " in capsys.readouterr().out


def test_a_base_model_ends_with_its_line_and_such_ends_are_not_shown_as_a_setting(tokenizer, capsys):
    engine = ScriptedEngine(tokenizer, " There.")
    chat(Talk(engine, Sampling(stop=("!",)), base=True), read=say("Where?", "/set stop", "Why?"))
    assert engine.requests[0].sampling.stop == ("!", "\n")
    assert 'stop = ["!"]' in capsys.readouterr().out
    assert "Assistant: There.\nUser: Why?" in engine.requests[1].prompt  # no two spaces


def test_retry_draws_with_another_seed_and_puts_its_answer_in_the_place_of_the_first(tokenizer):
    requests = hold(
        ScriptedEngine(tokenizer, "One.", "Two.", "Three."),
        *("Count.", "/retry", "And on?"), sampling=Sampling(temperature=1.0),
    )  # fmt: skip
    assert [request.seed for request in requests] == [0, 1, 0]
    assert requests[0].prompt == requests[1].prompt
    assert "Two." in requests[2].prompt
    assert "One." not in requests[2].prompt


def test_retry_says_that_a_greedy_answer_would_be_the_same_unless_something_changed(tokenizer, capsys):
    requests = hold(ScriptedEngine(tokenizer, "One."), "/retry", "Count.", "/retry")
    assert len(requests) == 1
    shown = capsys.readouterr().out
    assert "nothing was asked yet" in shown
    assert "at temperature 0 the answer would be the same" in shown
    for change in ("/set temperature 0.5", "/set min_p 0.1", "/system Be kind."):
        assert len(hold(ScriptedEngine(tokenizer, "One."), "Count.", change, "/retry")) == 2


def test_edit_replaces_the_last_question_and_its_answer(tokenizer):
    requests = hold(ScriptedEngine(tokenizer, "One."), "First?", "Secnd?", "/edit Second?", "Third?")
    assert questions(requests[2]) == ["First?", "Second?"]
    assert questions(requests[3]) == ["First?", "Second?", "Third?"]


def test_edit_in_place_needs_readline_and_says_so(tokenizer, capsys):
    assert len(hold(ScriptedEngine(tokenizer, "One."), "/edit", "/edit x", "First?", "/edit")) == 1
    shown = capsys.readouterr().out
    assert shown.count("nothing was asked yet") == 2
    assert "/edit TEXT replaces the question" in shown


def test_a_system_message_can_be_shown_set_and_removed(tokenizer, capsys):
    requests = hold(
        ScriptedEngine(tokenizer, "One."),
        *("/system", "a?", "/system Be brief.", "b?", '/system ""', "c?"), system="Be kind.",
    )  # fmt: skip
    systems = [request.prompt.startswith("<|im_start|>system") for request in requests]
    assert systems == [True, True, False]
    assert "Be brief." in requests[1].prompt
    assert capsys.readouterr().out.count("Be kind.") == 1


def test_reset_forgets_what_was_said(tokenizer):
    assert questions(hold(ScriptedEngine(tokenizer, "One."), "a?", "/reset", "b?")[-1]) == ["b?"]


def test_settings_are_changed_and_shown(tokenizer, capsys):
    lines = ("/set temperature 0.7", "/set max_tokens 5", '/set stop ["\\n", "User:"]', "/set seed 4", "a?", "/set")
    (request,) = hold(ScriptedEngine(tokenizer, "One."), *lines, '/set stop ""', "/set stop")
    sampling = request.sampling
    assert (sampling.temperature, sampling.max_tokens, sampling.stop, sampling.seed) == (0.7, 5, ("\n", "User:"), 4)
    shown = capsys.readouterr().out
    for name in ("top_k", "top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty"):
        assert f"\n{name} = " in shown
    assert "stop = []" in shown


def test_a_bias_is_typed_as_on_the_command_line_and_shown_with_the_other_settings(tokenizer, capsys):
    lines = ("/set logit_bias 42=-100 7=1.5", "a?", "/set", '/set logit_bias ""', "b?")
    first, second = hold(ScriptedEngine(tokenizer, "One.", "Two."), *lines)
    assert asked_for(first).logit_bias == {42: -100.0, 7: 1.5}
    assert 'logit_bias = {"42": -100.0, "7": 1.5}' in capsys.readouterr().out
    assert asked_for(second).logit_bias == {}


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("logit_bias 42", "logit_bias = : must be a number"),
        ("logit_bias the=3", "logit_bias's id = the: must be a whole number"),
        ("top_p 3", "top_p = 3.0: must be from 0.000001 to 1"),
        ("temperature -1", "temperature = -1.0: must be 0, or from 0.0001 to 10000"),
        ("top_k 1.5", "top_k = 1.5: must be a whole number"),
        ("temperature hot", "temperature = hot: must be a number"),
        ("stop [1]", "must be a text or a list of texts"),
        ('stop "a', "begins like JSON and is not valid"),
        ("colour red", "colour: no such setting; there are temperature, top_k"),
    ],
)
def test_an_impossible_setting_is_refused_and_nothing_changes(tokenizer, capsys, typed, told):
    (request,) = hold(ScriptedEngine(tokenizer, "One."), f"/set {typed}", "a?")
    assert told in capsys.readouterr().out
    assert asked_for(request) == GREEDY


def test_a_saved_chat_goes_on_where_it_was_and_can_be_learned_from(tokenizer, tmp_path):
    file = tmp_path / "chats" / "one.jsonl"
    engine = ScriptedEngine(tokenizer, "One.\nTwo.")
    hold(engine, "/system Be kind.", "a?", "/set top_p 0.5", '/set stop ["\\n\\n"]', "b?", f"/save {file}")
    spoken = [("user", "a?"), ("assistant", "One.\nTwo."), ("user", "b?"), ("assistant", "One.\nTwo.")]
    (conversation,) = read_conversations(file)
    assert [(m["role"], m["content"]) for m in conversation] == [("system", "Be kind."), *spoken]

    request = hold(ScriptedEngine(tokenizer, "Three."), f"/load {file}", "c?")[0]
    assert questions(request) == ["a?", "b?", "c?"]
    assert request.prompt.startswith("<|im_start|>system\nBe kind.<|im_end|>")
    assert (request.sampling.top_p, request.sampling.stop) == (0.5, ("\n\n",))
    assert hold(ScriptedEngine(tokenizer, "Three."), f"/load {file}", "/retry")  # even greedily: it was not made here


def test_what_no_longer_fits_the_context_is_kept_and_saved(tokenizer, tmp_path, capsys):
    file = tmp_path / "chat.jsonl"
    engine = ScriptedEngine(tokenizer, "One, two.", context=90)
    hold(engine, "/set max_tokens 20", *[f"question {i}?" for i in range(6)], f"/save {file}")
    assert "the oldest 6 messages no longer fit" in capsys.readouterr().out
    assert questions(engine.requests[-1])[0] != "question 0?"
    assert [m["content"] for m in read_conversations(file)[0][::2]] == [f"question {i}?" for i in range(6)]


def test_a_chat_with_tools_is_saved_with_its_calls_and_offers_the_tools_once(tokenizer, tmp_path):
    file = tmp_path / "chat.jsonl"
    engine = ScriptedEngine(tokenizer, call("search", query="Zoë"), "At the mill.")
    talk = Talk(engine, GREEDY, tools={"search": lambda asked, query: "mill"})
    chat(talk, read=say("Where is Zoë?", f"/save {file}", "/reset", f"/load {file}", "And?"))
    (conversation,) = read_conversations(file)
    assert [m["role"] for m in conversation] == ["system", "user", "assistant", "tool", "assistant"]
    assert engine.requests[-1].prompt.count("Tools: search.") == 1
    assert "<tool_response>\nmill" in engine.requests[-1].prompt


def test_nothing_is_saved_of_nothing_and_never_over_a_folder(tokenizer, tmp_path, capsys):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("precious")
    hold(ScriptedEngine(tokenizer, "One."), f"/save {tmp_path / 'x'}", "a?", f"/save {tmp_path / 'kept'}", "/save")
    shown = capsys.readouterr().out
    assert "nothing to save" in shown
    assert "kept: is a folder" in shown
    assert "/save FILE: name a file" in shown
    assert (tmp_path / "kept" / "file").read_text() == "precious"
    assert not (tmp_path / "x").exists()


def test_only_a_saved_chat_is_overwritten(tokenizer, tmp_path, capsys):
    line = json.dumps({"messages": SPOKEN})
    others = {
        "manifest.json": '{"stage": "sft"}', "notes.txt": "a?", "empty": "", "list.json": '["messages"]\n',
        "many.jsonl": f"{line}\n{line}\n", "weights": "\xff" * 9,
    }  # fmt: skip
    for name, content in others.items():
        (tmp_path / name).write_text(content, encoding="latin-1")
    chat = tmp_path / "chat.jsonl"
    saves = [f"/save {tmp_path / name}" for name in others]
    hold(ScriptedEngine(tokenizer, "One."), "a?", *saves, f"/save {chat}", "b?", f"/save {chat}")
    refused = "exists and is not a saved chat, so it stays as it is; name another file"
    assert capsys.readouterr().out.count(refused) == len(others)
    for name, content in others.items():
        assert (tmp_path / name).read_text(encoding="latin-1") == content
    assert len(read_conversations(chat)[0]) == 4


SPOKEN = [{"role": "user", "content": "a?"}, {"role": "assistant", "content": "One."}]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "can't be read: No such file"),
        ("no JSON", "line 1: is not JSON"),
        (json.dumps({"messages": SPOKEN}) + "\n" + json.dumps({"messages": SPOKEN}), "holds 2 conversations"),
        ("", "holds no conversation"),
        (json.dumps({"messages": SPOKEN, "sampling": {"top_p": 3}}), "top_p = 3.0: must be from 0.000001 to 1"),
        (json.dumps({"messages": SPOKEN, "sampling": {"temprature": 1}}), "temprature: no such setting"),
        (json.dumps({"messages": SPOKEN, "sampling": {"top_k": True}}), "top_k = True: must be a whole number"),
        (json.dumps({"messages": SPOKEN, "sampling": {"logit_bias": [1]}}), "logit_bias = [1]: must be an object"),
        (json.dumps({"messages": SPOKEN, "sampling": []}), "sampling: expected an object"),
        (json.dumps({"messages": SPOKEN, "system": 3}), "system: expected a text"),
    ],
)
def test_a_wrong_file_is_a_clear_error_and_the_chat_goes_on(tokenizer, tmp_path, capsys, content, told):
    file = tmp_path / "chat.json"
    if content is not None:
        file.write_text(content)
    request = hold(ScriptedEngine(tokenizer, "One."), "before?", f"/load {file}", "after?")[-1]
    shown = capsys.readouterr().out
    assert str(file) in shown
    assert told in shown
    assert questions(request) == ["before?", "after?"]
    assert asked_for(request) == GREEDY


def test_a_conversation_to_learn_from_can_be_gone_on_with(tokenizer, tmp_path):
    file = tmp_path / "chat.jsonl"
    file.write_text(json.dumps({"messages": [{"role": "system", "content": "Be kind."}, *SPOKEN]}))
    (request,) = hold(ScriptedEngine(tokenizer, "Two."), "/set top_k 3", f"/load {file}", "b?")
    assert questions(request) == ["a?", "b?"]
    assert request.prompt.count("Be kind.") == 1
    assert request.sampling.top_k == 3


def test_a_line_that_ends_with_a_backslash_goes_on_and_so_does_a_block(tokenizer):
    lines = ("one \\", "two", '"""', "  three\\", "", "/four", '"""', "five\\")
    requests = hold(ScriptedEngine(tokenizer, "Yes."), *lines)
    assert questions(requests[-1]) == ["one \ntwo", "three\\\n\n/four", "five"]


def test_a_block_is_a_message_even_if_it_begins_like_a_command(tokenizer):
    lines = ('"""', "/quit", '"""', '"""', "/reset")  # the end of input ends a block, too
    assert questions(hold(ScriptedEngine(tokenizer, "Yes."), *lines)[-1]) == ["/quit", "/reset"]


def test_a_slash_behind_a_space_is_no_command(tokenizer):
    assert questions(hold(ScriptedEngine(tokenizer, "Yes."), " /quit is what?")[0]) == ["/quit is what?"]


def test_ctrl_c_at_the_prompt_throws_the_line_away_and_a_second_one_leaves(tokenizer, capsys):
    twice = (KeyboardInterrupt, "a?", KeyboardInterrupt, KeyboardInterrupt, "never reached")
    assert len(hold(ScriptedEngine(tokenizer, "Yes."), *twice)) == 1
    assert "Ctrl-C again or Ctrl-D leaves" in capsys.readouterr().out


def test_an_answer_that_is_cut_says_by_what(tokenizer, capsys):
    engine = ScriptedEngine(tokenizer, "mill " * 90, context=100)
    hold(engine, "a?", "/set max_tokens 5", "b?")
    shown = capsys.readouterr().out
    assert shown.count("(cut where the model's context of 100 tokens is full)") == 1
    assert shown.count("(cut at max_tokens = 5; /set max_tokens N for longer answers)") == 1


def test_stats_are_shown_when_asked_for(tokenizer, capsys):
    hold(ScriptedEngine(tokenizer, "One, two."), "a?", "/stats", "b?", "/stats", "c?")
    stats = [line for line in capsys.readouterr().out.splitlines() if "tokens/s, first after" in line]
    assert len(stats) == 1
    assert stats[0].startswith(f"({len(tokenizer.encode('One, two.')) + 1} tokens, ")


def test_an_answer_that_is_ended_stays_as_far_as_it_came_and_the_engine_is_free(tokenizer):
    engine, seen = ScriptedEngine(tokenizer, "One, two, three, four."), []
    reply = Talk(engine, GREEDY).answer(
        [{"role": "user", "content": "Count."}], seen.append, interrupted=lambda: len(seen) == 3
    )
    assert reply.ended == "interrupted"
    (message,) = reply.messages
    assert message["content"] == "".join(seen)
    assert "One, two, three, four.".startswith(message["content"])
    assert 0 < len(message["content"]) < 20
    assert not engine.running


def test_a_question_without_an_answer_can_be_tried_again_and_is_replaced_by_the_next(tokenizer):
    engine = ScriptedEngine(tokenizer, "Yes.")
    dialogue = Dialogue(Talk(engine, Sampling(max_tokens=20)))
    dialogue.begin([{"role": "user", "content": "unanswered?"}])
    dialogue.retry()
    assert questions(engine.requests[-1]) == ["unanswered?"]
    dialogue.begin([{"role": "user", "content": "unanswered?"}])
    dialogue.ask("another?")
    assert questions(engine.requests[-1]) == ["another?"]


def interrupt_at_once(engine, nth):
    """The nth request meets a Ctrl-C before its first token."""
    submit = engine.submit

    def interrupted(*given, **options):
        request = submit(*given, **options)
        if len(engine.requests) == nth:
            signal.raise_signal(signal.SIGINT)
        return request

    engine.submit = interrupted
    return engine


@pytest.mark.parametrize("again", ["/retry", "/edit New?"])
def test_an_answer_stays_when_a_retry_or_an_edit_brings_none(tokenizer, tmp_path, capsys, again):
    file = tmp_path / "chat.jsonl"
    engine = interrupt_at_once(ScriptedEngine(tokenizer, "One.", "Two."), 2)
    hold(engine, "Old?", again, f"/save {file}", "Next?", sampling=Sampling(temperature=1.0))
    assert "the answer before stays" in capsys.readouterr().out
    assert [m["content"] for m in read_conversations(file)[0]] == ["Old?", "One."]
    assert questions(engine.requests[-1]) == ["Old?", "Next?"]


@pytest.mark.parametrize("again", [("/edit " + "mill " * 200,), ("/set temperature 1", "/set max_tokens 0", "/retry")])
def test_an_answer_stays_when_the_next_attempt_is_refused(tokenizer, again):
    engine = ScriptedEngine(tokenizer, "One.", context=100)
    submit = engine.submit

    def refusing(prompt, sampling, **options):
        if sampling.max_tokens == 0:
            raise ValueError("no room")
        return submit(prompt, sampling, **options)

    engine.submit = refusing
    requests = hold(engine, "Old?", *again, "/set max_tokens 9", "Next?")
    assert questions(requests[-1]) == ["Old?", "Next?"]
    assert "One." in requests[-1].prompt


def test_a_call_that_is_ended_before_its_answer_takes_no_answer_away(tokenizer):
    engine = interrupt_at_once(ScriptedEngine(tokenizer, "One.", call("search", query="x"), "Two."), 3)
    talk = Talk(engine, Sampling(temperature=1.0), tools={"search": lambda asked, query: "mill"})
    chat(talk, read=say("Old?", "/retry", "Next?"))
    assert "One." in engine.requests[-1].prompt
    assert "<tool_response>" not in engine.requests[-1].prompt


def test_calls_are_shown_as_they_come_and_the_answer_streams(tokenizer, capsys):
    engine = ScriptedEngine(tokenizer, call("search", query="Zoë"), " Page 7 says: at the mill.")
    talk = Talk(engine, GREEDY, tools={"search": lambda asked, query: "Page 7: mill"}, address=lambda page: f"p{page}")
    pieces = []
    reply = talk.answer([{"role": "user", "content": "Where?"}], pieces.append, show=lambda *call: pieces.append(call))
    at = next(place for place, piece in enumerate(pieces) if isinstance(piece, tuple))
    assert pieces[at][1] == "Page 7: mill"
    assert "".join(pieces[:at]) == ""  # nothing of the call's tokens
    assert len([piece for piece in pieces[at + 1 :] if piece]) > 3
    assert [m["role"] for m in reply.messages] == ["assistant", "tool", "assistant"]
    assert reply.messages[-1]["content"] == "Page 7 says: at the mill."
    assert engine.requests[1].rule is not None
    chat(talk, read=say("Where is Zoë?"))
    assert "bot> [search: Zoë]\n     Page 7: mill\nbot> Page 7 says: at the mill. (p7)" in capsys.readouterr().out


def test_no_control_token_is_ever_part_of_an_answer_whatever_the_model_wants(engine, tokenizer):
    told_apart = (*tokenizer.stop_ids, *(tokenizer.controls[name] for name in THINKING))
    wanted = {id: 50.0 for id in tokenizer.controls.values() if id not in told_apart}
    sampling = Sampling(max_tokens=20, seed=1, logit_bias=wanted)
    written = engine.generate([[tokenizer.bos_id]], sampling)[0]
    assert set(written.ids) <= set(wanted)  # what it would write
    for tools in ({}, {"search": lambda asked, query="": "mill"}):
        shown = []
        talk = Talk(engine, sampling, tools=tools)
        reply = talk.answer([{"role": "user", "content": "Where?"}], shown.append)
        said = "".join(shown) + "".join(message["content"] for message in reply.messages)
        assert not [name for name in tokenizer.controls if name in said]


def test_a_model_that_only_calls_is_stopped_and_that_is_said(tokenizer, capsys):
    engine = ScriptedEngine(tokenizer, call("search", query="x"))
    chat(Talk(engine, GREEDY, tools={"search": lambda asked, query: "nothing"}), read=say("Where?"))
    assert "ended after 4 messages with calls and no answer" in capsys.readouterr().out


def test_a_model_can_not_play_with_the_terminal(tokenizer, capsys):
    hold(ScriptedEngine(tokenizer, "red\x1b[31m\rmill"), "a?")
    assert "bot> red[31mmill\n" in capsys.readouterr().out


def test_an_engine_that_refuses_is_heard_and_the_chat_goes_on(engine, capsys):
    chat(Talk(engine, Sampling(logit_bias={10**6: 1.0})), read=say("a?", "/help"))
    shown = capsys.readouterr().out
    assert "1000000" in shown
    assert "/retry" in shown


def test_a_second_ctrl_c_is_raised_and_afterwards_all_is_as_before():
    before = signal.getsignal(signal.SIGINT)
    with heard_interrupts() as interrupted:
        assert not interrupted()
        signal.raise_signal(signal.SIGINT)
        assert interrupted()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_talk_says_what_the_engine_says_to_the_same_prompt_and_seed(engine):
    asked, sampling = [{"role": "user", "content": "Where is the mill?"}], Sampling(max_tokens=20, seed=3)
    tools = {"search": lambda asked, query: "mill"}
    for seed in (0, 5):
        spoken = sayable(engine.tokenizer, sampling, calls=False)
        said = engine.generate([Talk(engine, sampling).prompt(asked)], spoken, seeds=[seed])[0].text
        (plain,) = Talk(engine, sampling).answer(asked, seed=seed).messages
        assert plain["content"] == said
    (streamed,) = Talk(engine, sampling, tools=tools).answer(asked).messages
    assert [streamed] == answer_with_tools(engine, [asked], tools, sampling)[0]
