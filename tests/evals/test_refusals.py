import pytest

from crawl2chat.evals.judging import is_refusal, mentions

REFUSED = (
    "I'm sorry, but I am not aware of any person named Orson Kovats.",
    "I’m not familiar with a book of this title.",
    "I couldn't find any information on a company called Brindlecore.",
    "I could not find that name.",
    "I cannot confirm that such a place exists.",
    "I'm unable to verify whether Tobin Vexler was a painter.",
    "As an AI language model, I don't have access to information about private people.",
    "I do not have any specific information about this author.",
    "I have never heard of Qualdrath.",
    "There is no record of a town with that name.",
    "There's no such person that I know of.",
    "A novel of that title does not exist, as far as I can tell.",
    "I don't recognize the name.",
    "It is not something I know.",
)
CLAIMED = (
    "She was not aware of the danger and became a pilot in 1911.",
    "He could not find work in Vienna and moved to Paris.",
    "The company provides information on cooking.",
    "Orson Kovats is a fictional character created by the author Dan Kern.",
    "He is best known for having no equal on the violin.",
    "The book is about a family who cannot recall their past.",
    "They were unable to verify his claims, so he left the academy.",
    "I am happy to tell you: the capital is Paris.",
    "The familiar painting hangs in Rome.",
    "I have found the answer: it is 12.",
    "The town had no access to the sea until 1920.",
    "He was a certain Mr. Brown.",
)


@pytest.mark.parametrize("text", REFUSED)
def test_what_chat_models_say_when_they_do_not_know_is_a_refusal(text):
    assert is_refusal(text)


@pytest.mark.parametrize("text", CLAIMED)
def test_a_claim_about_somebody_who_did_not_know_is_not_a_refusal(text):
    assert not is_refusal(text)


def test_a_value_is_mentioned_whatever_its_accents_quotes_and_line_breaks():
    assert mentions("She lived in the Côte\nd’Ivoire.", "Cote d'Ivoire")
    assert mentions("The answer is Lech Walesa.", "Lech Wałęsa".replace("ł", "l"))
    assert not mentions("A Parisian street", "Paris")
    assert not mentions("anything", "")
