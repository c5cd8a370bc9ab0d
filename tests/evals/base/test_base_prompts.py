from subjects import small_model

from crawl2chat.evals.base.base_prompts import fitting, greedy
from crawl2chat.generate import Engine


def test_of_a_prompt_beyond_the_context_its_end_is_read(tokenizer):
    engine = Engine(small_model(tokenizer, context=32), tokenizer)
    prompt = "The mill stood by the river. " * 20
    ids = fitting(engine, prompt, 5)
    assert len(ids) == 27
    assert tokenizer.encode(prompt)[-27:] == ids
    assert len(greedy(engine, [prompt, "The"], 5)) == 2


def test_a_short_prompt_begins_a_document(tokenizer):
    engine = Engine(small_model(tokenizer), tokenizer)
    assert fitting(engine, "The", 5) == [tokenizer.end_of_text, *tokenizer.encode("The")]
