from crawl2chat.generate import Completion
from crawl2chat.rl.replay import renewed


class Scripted:
    context = 256

    def __init__(self, tokenizer, answers):
        self.tokenizer, self.answers = tokenizer, answers

    def generate(self, prompts, sampling):
        assert len(prompts) == len(self.answers)
        return [Completion(text=text, finish_reason="stop") for text in self.answers]


def exchange(question, reply):
    return [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]


def test_an_answer_is_renewed_where_the_model_comes_to_the_same_number(tokenizer):
    right, wrong, story = exchange("2+3?", "It is 5."), exchange("2+4?", "It is 6."), exchange("A story?", "Once.")
    made = renewed([right, wrong, story], Scripted(tokenizer, ["2 and 3 give 5.", "It is 7."]), max_tokens=20)
    assert made == [exchange("2+3?", "2 and 3 give 5."), wrong, story]


def test_an_answer_that_ends_with_the_same_digits_but_another_value_is_not_taken(tokenizer):
    half, name = exchange("Which part?", "#### 1/2"), exchange("Who made you?", "The web2chat project did.")
    made = renewed([half, name], Scripted(tokenizer, ["#### 2", "I was made by web2chat."]), max_tokens=20)
    assert made == [half, exchange("Who made you?", "I was made by web2chat.")]
