"""What scoring against the truth reads of the made-up web: its ledger, and how its pages word facts and examples."""

from crawl2chat.tinyweb.arithmetic import STEP_CUE
from crawl2chat.tinyweb.glossary import ask_in_game, ask_in_sentences, phrase_line, translate
from crawl2chat.tinyweb.ledger import RELATIONS, Ledger, Person, Relation, load_people
from crawl2chat.tinyweb.prose import with_article
from crawl2chat.tinyweb.wording import NOUN_PHRASES, answer, questions
from crawl2chat.tinyweb.words import NOUNS

__all__ = [
    "NOUNS",
    "NOUN_PHRASES",
    "RELATIONS",
    "STEP_CUE",
    "Ledger",
    "Person",
    "Relation",
    "answer",
    "ask_in_game",
    "ask_in_sentences",
    "load_people",
    "phrase_line",
    "questions",
    "translate",
    "with_article",
]
