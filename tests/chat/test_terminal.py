import pytest
import torch

from crawl2chat.chat.terminal import Talk, chat, fit_context
from crawl2chat.generate import Engine, Sampling
from crawl2chat.model import ModelConfig, Transformer


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
        return waiting.pop(0)

    return read


def test_a_long_chat_goes_on_and_says_what_it_leaves_out(engine, capsys):
    chat(Talk(engine, Sampling(max_tokens=12, seed=1)), read=say(*["Tell me of the mill and of the bridge."] * 6))
    shown = capsys.readouterr().out
    assert shown.count("bot> ") == 6
    assert "no longer fit the context and are left out" in shown


def test_a_message_longer_than_the_context_is_refused_and_the_chat_goes_on(engine, capsys):
    chat(Talk(engine, Sampling(max_tokens=4)), read=say("mill " * 200, "short"))
    shown = capsys.readouterr().out
    assert "too long for this model's context of 80 tokens" in shown
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
    kept = fit_context(Talk(engine, Sampling(max_tokens=20)), opening, history)
    assert kept[0]["role"] == "user"
    assert kept == history[-len(kept) :]
    ids, _ = engine.tokenizer.encode_chat([*opening, *kept], add_generation_prompt=True)
    assert len(ids) + 20 <= engine.context


def test_a_base_model_is_given_a_page_to_go_on_with(engine, capsys):
    talk = Talk(engine, Sampling(max_tokens=6), base=True)
    prompt = talk.prompt([{"role": "user", "content": "Where is the mill?"}])
    assert prompt[0] == engine.tokenizer.end_of_text
    assert engine.tokenizer.decode(prompt).endswith("\nUser: Where is the mill?\nAssistant:")
    chat(talk, read=say("Where?"))
    assert "bot> " in capsys.readouterr().out
