import torch
from hypothesis import given
from hypothesis import strategies as st

from crawl2chat.chat.quoting import Quoting
from crawl2chat.generate import Engine, Sampling
from crawl2chat.model import ModelConfig, Transformer

RESULT = "Page 12: The bridge was gone in 1842; nobody knew of the mill-race and the river.\nWhere is it?"


def follow(tokenizer, text):
    return Quoting(tokenizer, RESULT)(tokenizer.encode(text))


def texts(tokenizer, ids):
    return {tokenizer.decode([id]) for id in ids}


def test_before_the_colon_and_after_the_quotation_anything_may_come(tokenizer):
    assert follow(tokenizer, "Page 12 says") is None
    assert follow(tokenizer, "Page 12 says: the bridge.") is None


def test_a_quotation_begins_with_a_word_of_the_result_and_stays_within_its_clause(tokenizer):
    begin = texts(tokenizer, follow(tokenizer, "Page 12 says:"))
    assert all(text.startswith(" ") for text in begin)
    assert "." not in begin
    assert texts(tokenizer, follow(tokenizer, "Page 12 says: gone in 1842")) == {"."}  # a semicolon ends the clause


def test_years_and_words_with_hyphens_can_be_quoted(tokenizer):
    for quotation in (" 1842", " mill-race"):
        written = tokenizer.encode("Page 12 says:")
        for id in tokenizer.encode(quotation):
            assert id in Quoting(tokenizer, RESULT)(written)
            written.append(id)


@given(seed=st.integers(0, 200))
def test_whatever_a_model_says_it_only_quotes(tokenizer, seed):
    model = Transformer(ModelConfig(tokenizer.vocab_size, 16, 16, 1, 1, 1, 16, max_position_embeddings=96))
    model.init_weights(seed)
    with torch.no_grad():
        model.lm_head.weight.mul_(20)  # a decided model
    prompt = tokenizer.encode("The mill. Page 12 says")
    colon = tokenizer.encode(":")
    rule = Quoting(tokenizer, RESULT)
    (said,) = Engine(model, tokenizer, max_batch=1).generate(
        [prompt], Sampling(max_tokens=20, seed=seed), rules=[lambda written: colon if not written else rule(written)]
    )
    quoted = tokenizer.decode(said.ids[1:]).partition(".")[0].strip()
    words = RESULT.split("\n")[0].partition(":")[2]
    assert quoted
    assert quoted in words


def test_rules_of_one_request_leave_the_others_alone(tokenizer):
    model = Transformer(ModelConfig(tokenizer.vocab_size, 16, 16, 1, 1, 1, 16, max_position_embeddings=64))
    model.init_weights(0)
    engine, sampling = Engine(model, tokenizer), Sampling(max_tokens=8, seed=3)
    alone = engine.generate(["The"], sampling)[0].ids
    only_a = tokenizer.encode("a")
    free, bound = engine.generate(["The", "The"], sampling, seeds=[0, 0], rules=[None, lambda written: only_a])
    assert free.ids == alone
    assert set(bound.ids) == set(only_a)
