"""Other assistants' cards: what is taught of them, and that what is measured was never taught."""

import random
from dataclasses import replace

from crawl2chat.evals.judging import mentions
from crawl2chat.generate import Completion
from crawl2chat.honesty.cards import MEASURED_CARDS, OWN_EVERY, ask_other_cards, card_conversations, says_own
from crawl2chat.honesty.identity import WORDINGS, Card

OWN = Card()


def taught(count=3000):
    return list(card_conversations(OWN, count, random.Random(0)))


def system_of(talk):
    return next(m["content"] for m in reversed(talk) if m["role"] == "system")


def test_each_answer_is_what_the_system_message_says():
    for talk in taught(500):
        card = system_of(talk)
        for message in talk:
            if message["role"] == "assistant":
                words = message["content"].replace(".", "").replace(",", "").split()
                names = [word for word in words if word[:1].isupper() and word not in ("I", "My", "The", "A")]
                assert names
                assert all(name in card for name in names), (card, message["content"])


def test_nearly_every_card_has_a_name_of_its_own_and_the_models_own_is_among_them():
    talks = taught(1600)
    systems = [system_of(talk) for talk in talks]
    assert systems.count(OWN.system_message()["content"]) == len(talks) / OWN_EVERY
    assert len(set(systems)) > 0.9 * len(systems)
    assert {sum(m["role"] == "user" for m in talk) for talk in talks} == {1, 2, 3}
    assert any(talk[0]["content"].startswith("Tools:") for talk in talks)


def test_no_measured_card_shares_its_name_maker_or_abilities_with_what_is_taught():
    text = "\n".join(message["content"] for talk in taught(3000) for message in talk)
    for card in MEASURED_CARDS:
        for part in (card.name, card.maker, card.abilities):
            assert not mentions(text, part)


def test_wordings_that_were_kept_back_are_asked_of_two_cards_each(tokenizer):
    class Obedient:
        """Says its whole system message."""

        context = 1000

        def generate(self, prompts, sampling):
            said = [self.tokenizer.decode(prompt).split("<|im_end|>")[0] for prompt in prompts]
            return [Completion(ids=[1], text=text, finish_reason="stop") for text in said]

    engine = Obedient()
    engine.tokenizer = tokenizer
    answers = ask_other_cards(engine)
    kept_back = [
        wording for kind, wordings in WORDINGS.items() if kind != "nature" for wording in wordings[len(wordings) // 2 :]
    ]
    assert sorted(answer.question.text for answer in answers) == sorted(kept_back * 2)
    assert all(answer.right for answer in answers)
    assert not any(says_own(answer, OWN) for answer in answers)
    assert says_own(replace(answers[0], text="I am Pippin."), OWN)
