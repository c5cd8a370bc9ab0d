"""Pages of invented words: glossaries that hold on one page alone, and phrase books of one invented language."""

import random
from collections.abc import Iterable, Sequence

from crawl2chat.tinyweb import words
from crawl2chat.tinyweb.ledger import Glossary, PhraseBook
from crawl2chat.tinyweb.pages import Block, Page, paragraphs
from crawl2chat.tinyweb.prose import capitalised, fill, filler, title
from crawl2chat.tinyweb.world import World

_ENTRIES = 8
_ASKED_WORDS = 6  # with the definitions this stays within one training sequence of 256 tokens
_USED_WORDS = 2
_GAME_WORDS = 28  # of a page, in rounds of two to six words
ROUND_SIZES = (2, 3, 4, 6)
_PHRASES = 18


def glossary_pages(world: World, count: int) -> list[tuple[Page, Glossary]]:
    """Pages that define eight invented words and then ask what they mean.

    All pages share one pool of words but each gives them new meanings: only the page itself tells.
    """
    rng = world.rng("glossaries")
    return [_glossary_page(world, rng) for _ in range(count)]


def word_game_pages(world: World, count: int) -> list[tuple[Page, Glossary]]:
    """Pages of a game in rounds, each of a few invented words that are said again and again before their meanings.

    From these a model learns to look in the text before for what followed the present word. That rounds have few
    words and that nothing stands between word and meaning make it form within minutes (bench/induction.py).
    """
    rng = world.rng("word games")
    return [_word_game_page(world, rng) for _ in range(count)]


def ask_in_game(entries: Sequence[tuple[str, str]], word: str) -> str:
    """A round that says some words with their meanings, and another one up to where its meaning follows."""
    return f"We say {say_list(entries)}, {word}" if entries else f"We say {word}"


def ask_in_sentences(entries: Sequence[tuple[str, str]], word: str) -> str:
    """Definitions, a question, and its answer up to where the meaning follows."""
    told = " ".join(define(word, meaning) for word, meaning in entries)
    question = _ASKED[0].format(word=word, meaning="").removesuffix(" .")
    return f"{told}\n\n{question}".lstrip()


def say_list(entries: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{word} {meaning}" for word, meaning in entries)


def phrase_book_pages(world: World, count: int) -> list[tuple[Page, PhraseBook]]:
    """Pages of lines such as `the river = ol tamar`; the language is the same on all."""
    rng = world.rng("phrase books")
    return [_phrase_book_page(world, rng) for _ in range(count)]


def define(word: str, meaning: str) -> str:
    return f"The word {word} means {meaning}."


def phrase_line(english: str, foreign: str) -> str:
    """A line of a phrase book; without a translation, up to where it follows."""
    return f"{english} = {foreign}".rstrip()


def translate(phrase: str, dictionary: dict[str, str]) -> str:
    """Word for word; raises KeyError for a word that the dictionary lacks."""
    return " ".join(dictionary[word] for word in phrase.split())


def _glossary_page(world: World, rng: random.Random) -> tuple[Page, Glossary]:
    entries = dict(zip(rng.sample(world.glossary_words, _ENTRIES), rng.sample(words.NOUNS, _ENTRIES), strict=True))
    town = rng.choice(world.towns)
    # an invented word never begins a sentence: in capitals it would be another token
    defined = " ".join(define(word, meaning) for word, meaning in entries.items())
    asked = rng.sample(list(entries), _ASKED_WORDS)
    templates = rng.sample(_ASKED, _ASKED_WORDS) + rng.sample(_USES, _USED_WORDS)
    exercises = [
        capitalised(fill(template, rng, word=word, meaning=entries[word]))
        for template, word in zip(templates, asked + rng.sample(list(entries), _USED_WORDS), strict=True)
    ]
    rng.shuffle(exercises)
    half = len(exercises) // 2
    blocks = paragraphs(
        f"{fill(rng.choice(_INTROS), rng, town=town)} {defined}",
        " ".join(exercises[:half]),
        " ".join(exercises[half:]),
        f"{fill(rng.choice(_OUTROS), rng, town=town)} {filler(rng, 1)}",
    )
    page = Page("glossary", title(rng, _TITLES, town=town), blocks)
    return page, Glossary("", entries)


def _word_game_page(world: World, rng: random.Random) -> tuple[Page, Glossary]:
    meanings = rng.sample(words.NOUNS, _GAME_WORDS)
    entries = list(zip(rng.sample(world.glossary_words, _GAME_WORDS), meanings, strict=True))
    town = rng.choice(world.towns)
    rounds: list[str] = []
    told: dict[str, str] = {}
    while len(entries) > 1:
        size = rng.choice(ROUND_SIZES)
        of_round, entries = entries[:size], entries[size:]
        said = _said_again(of_round, 3 * len(of_round), rng)
        rounds.append(f"{capitalised(fill(rng.choice(_ROUND_LEADS), rng, town=town))} {say_list(said)}.")
        told |= dict(said)
    intro, rule, outro = (fill(rng.choice(of), rng, town=town) for of in (_INTROS, _RULES, _OUTROS))
    page = Page("word_game", title(rng, _TITLES, town=town), paragraphs(f"{intro} {rule}", *rounds, outro))
    return page, Glossary("", told)


def _said_again(entries: Sequence[tuple[str, str]], count: int, rng: random.Random) -> list[tuple[str, str]]:
    """Entries in random order, but no three in a row twice: as a page that repeats itself it would be dropped."""
    said: list[tuple[str, str]] = []
    runs = set()
    for _ in range(count):
        fresh = [entry for entry in entries if (*said[-2:], entry) not in runs]
        said.append(rng.choice(fresh or entries))
        runs.add(tuple(said[-3:]))
    return said


def _phrase_book_page(world: World, rng: random.Random) -> tuple[Page, PhraseBook]:
    nouns = [w for w in words.NOUNS if w in world.dictionary]
    adjectives = [w for w in words.ADJECTIVES if w in world.dictionary]
    verbs = [w for w in world.dictionary if w not in (*nouns, *adjectives, "the", "and", "near")]
    phrases: dict[str, str] = {}
    while len(phrases) < _PHRASES:
        one, two = rng.sample(nouns, 2)
        shape = rng.choice(
            (
                "the {n}",
                "the {a} {n}",
                "the {a} {n}",
                "the {n} {v}",
                "the {a} {n} {v} near the {m}",
                "the {n} and the {m}",
            )
        )
        phrase = shape.format(n=one, m=two, a=rng.choice(adjectives), v=rng.choice(verbs))
        phrases[phrase] = translate(phrase, world.dictionary)
    lines = [phrase_line(english, foreign) for english, foreign in phrases.items()]
    town = rng.choice(world.towns)
    given = {"language": world.language, "town": town}
    blocks = paragraphs(" ".join(fill(t, rng, **given) for t in rng.sample(_LANGUAGE_INTROS, 3)))
    half = len(lines) // 2
    blocks += [Block("lines", "\n".join(lines[:half])), *paragraphs(filler(rng, 3))]
    blocks += [Block("lines", "\n".join(lines[half:])), *paragraphs(filler(rng, 2))]
    page = Page("phrase_book", title(rng, _LANGUAGE_TITLES, **given), blocks)
    return page, PhraseBook("", world.language, phrases)


_TITLES = (
    "Secret words of {town}, page {count}",
    "A small glossary {where}",
    "Words we made up in {season}",
    "The {adj} dictionary of the {town} club",
    "Word list for the {gathering}",
    "How the {who} speaks: a glossary",
)

_INTROS = (
    "In our game each word below has a meaning of its own.",
    "The club of {town} uses these words on this page only.",
    "Learn the list first.",
    "Here is this week's list, and next week it will be another.",
    "These are the words of the day.",
    "The {who} chose the following meanings.",
    "On this page the words mean what the list says.",
)

_RULES = (  # with the function words that filters look for, as the rounds have few
    "One of us says a word, and the next has to say what it means.",
    "The rule is to say each word with its meaning.",
    "We clap to the words and laugh with the {who} who forgets one.",
    "The {who} begins, and all of us have to go on {how}.",
    "Say the word and what it means, and then it is the turn of the {who}.",
    "The first to forget one of them must bring the {food}.",
)

_ROUND_LEADS = (
    "we say",
    "now",
    "once more:",
    "the {who} says",
    "all together:",
    "and then",
    "on {weekday}",
    "the children sing",
    "faster:",
)

_USES = (
    "We say {word} when we speak of a {meaning}.",
    "A {who} {did} the {meaning}, so here it is written: the {who} {did} the {word}.",
    "The {adj} {word} is the {adj} {meaning}.",
    "I saw a {word} {where}, that is, a {meaning}.",
    "A {meaning} is called {word} in this game.",
    "Remember that {word} stands for {meaning}.",
    "Nobody in {month} lost a {word}, since {word} means {meaning}.",
)

_ASKED = (
    "What does {word} mean? The word {word} means {meaning}.",
    "On this page, what does {word} mean? Here {word} means {meaning}.",
    "And {word}? We read above that {word} means {meaning}.",
    "Asked for {word}, the {who} wrote: {word} means {meaning}.",
    "Who knows {word}? Look it up: {word} means {meaning}.",
    "The {adj} word {word} is next. Its line says that {word} means {meaning}.",
    "Test yourself on {word}. The list says {word} means {meaning}.",
    "Now {word}, please. Yes, {word} means {meaning}.",
    "Does anyone recall {word}? Of course, {word} means {meaning}.",
    "Try {word}. Answer: {word} means {meaning}.",
    "A {who} forgot {word}. Well, {word} means {meaning}.",
)

_OUTROS = (
    "Next week the words get new meanings.",
    "Elsewhere these words may mean other things.",
    "The list is void after {weekday}.",
    "Please do not use the words outside {town}.",
    "Other pages have other lists.",
)

_LANGUAGE_TITLES = (
    "Phrase book: English and {language}",
    "{language} for travellers, part {count}",
    "Learn {language} before {month}",
    "A {adj} hour of {language}",
    "Our {language} course in {town}",
    "{language} phrases from the {gathering}",
)

_LANGUAGE_INTROS = (
    "Every word of {language} stands where the English word stands.",
    "I learned {language} from a {who} in {town}.",
    "Each line gives the English phrase first and the {language} phrase after it.",
    "Read the lines aloud {how}.",
    "The order of words in {language} is that of English.",
    "Few people near {town} still speak {language}.",
    "A {adj} {who} wrote these {language} lines for us in {month}.",
    "With {count} lines a day one learns {language} in a {season}.",
)
