"""What the page Base asks of a model now: how well it compresses a text, how it goes on, and what it counts."""

import asyncio
import gzip
import math
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from crawl2chat.evals.base.compression import brotli, xz, zstd
from crawl2chat.evals.base.from_outside import AT_ONCE, COUNT_TOKENS
from crawl2chat.evals.base.in_context import STOP
from crawl2chat.evals.base.spelling_and_sums import SHOTS, ChoiceTask
from crawl2chat.evals.judging import is_correct, question_prompt
from crawl2chat.generate import Sampling
from crawl2chat.serve.api.prompts import check_prompt
from crawl2chat.serve.app.sampling import LastLogits
from crawl2chat.serve.engine_thread import GenerationRequest
from crawl2chat.serve.errors import bad_request
from crawl2chat.serve.http import EventStream, client_address, describe_tokens, tensors
from crawl2chat.serve.model_pool import LoadedModel, ServedModel

PROGRAMS: dict[str, Callable[[bytes], int]] = {
    "xz": xz, "gzip": lambda text: len(gzip.compress(text, mtime=0)), "zstd": zstd, "brotli": brotli,
}  # fmt: skip
MAX_TOKENS = 40_000  # of a text that is scored
WINDOW_TOKENS = 1024  # that are read at once: more context costs more than it gains
WINDOWS_AT_ONCE = 16  # admitted together, so that others are not kept waiting
PING_SECONDS = 15.0
DIGITS = tuple("0123456789")
EXAMPLES = (  # before a base model is asked, as it has read no such question; a word that is asked about is left out
    ("letter", "e"), ("window", "s"), ("banana", "a"), ("garden", "d"), ("coffee", "f"),
)  # fmt: skip
WAYS: dict[str, Callable[[str], str]] = {"as a word": str, "spelled out": " ".join}

Ending = Callable[[str], Mapping[str, Any]]  # of the whole text, what is said of it at the end


async def compress(loaded: LoadedModel, text: str, client: str | None) -> Response:
    """The bits of each token of a text, next to what programs make of it.

    A text longer than a window is read in windows that overlap by half, and the half that was counted before is only
    read: so every token has at least half a window before it, or all of the text.
    """
    model = loaded.model
    ids = await asyncio.to_thread(model.tokenizer.encode, text)
    if len(ids) > MAX_TOKENS:
        raise bad_request(f"text: has {len(ids):,} tokens; expected at most {MAX_TOKENS:,}", "text")
    window = min(WINDOW_TOKENS, model.engine.context)
    rows = windows([model.tokenizer.bos_id, *ids], window)
    nats: list[float] = []
    for begin in range(0, len(rows), WINDOWS_AT_ONCE):
        some = rows[begin : begin + WINDOWS_AT_ONCE]
        wanted = [GenerationRequest(row, Sampling(max_tokens=0), 0, prompt_logprobs=True) for row, _ in some]
        deltas = await loaded.admission.admit(wanted, client).all_deltas()
        prefills = {index: delta.prefill for index, delta in deltas if delta.prefill}
        for index, (_, first) in enumerate(some):
            nats += [-(p or 0.0) for p in prefills[index].logprobs[first:]]
    programs = await asyncio.to_thread(lambda: {name: size(text.encode()) for name, size in PROGRAMS.items()})
    different = sorted(set(ids))
    header = {
        "tokens": describe_tokens(model.tokenizer, different),
        "bytes": len(model.tokenizer.decode_bytes(ids)),
        "programs": programs,
        "model": model.name,
    }
    places = {id: place for place, id in enumerate(different)}
    bits = np.array(nats, np.float32) / math.log(2)
    return tensors(header, {"tokens_of": np.array([places[id] for id in ids], np.int32), "bits": bits})


def windows(ids: Sequence[int], window: int) -> list[tuple[Sequence[int], int]]:
    """Rows of at most `window` ids that together cover all of them, each with the first of its places that counts.

    The very first id has nothing before it and does not count.
    """
    again = window // 2
    later = range(window, len(ids), window - again)
    return [(ids[:window], 1), *((ids[done - again : done - again + window], again) for done in later)]


def continued(
    loaded: LoadedModel, prompt: Sequence[int], sampling: Sampling, request: Request, at_end: Ending, param: str
) -> EventStream:
    """The most probable continuation as events: its text as it comes, and what `at_end` says of the whole."""
    check_prompt(loaded.model, prompt, param)
    wanted = GenerationRequest(prompt, sampling, 0)
    generation = loaded.admission.admit([wanted], client_address(request))

    async def events() -> AsyncGenerator[list[dict[str, Any]], None]:
        text = ""
        async for deltas in generation.deltas(PING_SECONDS):
            new = "".join(delta.text for _, delta in deltas)
            text += new
            yield [{"text": new}] if new else []
        yield [{"text": "", "whole": text, **at_end(text)}]

    return EventStream(events(), generation.close)


async def probability(loaded: LoadedModel, prompt: Sequence[int], value: str, client: str | None) -> float:
    """How probable the model finds it that a prompt is followed by a space and this value."""
    model = loaded.model
    wanted = await asyncio.to_thread(model.tokenizer.encode, f" {value}")
    check_prompt(model, [*prompt, *wanted], "text", room=0)
    scored = GenerationRequest([*prompt, *wanted], Sampling(max_tokens=0), 0, prompt_logprobs=True)
    deltas = await loaded.admission.admit([scored], client).all_deltas()
    prefill = next(delta.prefill for _, delta in deltas if delta.prefill)
    return math.exp(sum(p or 0.0 for p in prefill.logprobs[-len(wanted) :]))


def short_answer(max_tokens: int) -> Sampling:
    """As the stage draws a word or a phrase."""
    return Sampling(temperature=0, max_tokens=max_tokens, stop=STOP)


async def count(loaded: LoadedModel, logits: LastLogits, word: str, letter: str, client: str | None) -> dict[str, Any]:
    """How the word is cut, and how often the model finds the letter in it: as a word, and spelled out."""
    ways = []
    for name, write in WAYS.items():
        tokens = describe_tokens(loaded.model.tokenizer, loaded.model.tokenizer.encode(f" {write(word)}"))
        ask = _choose if loaded.model.base else _answer
        ways.append({"way": name, "tokens": tokens, **await ask(loaded, logits, word, letter, write, client)})
    return {"expected": word.count(letter), "ways": ways}


async def _choose(
    loaded: LoadedModel, logits: LastLogits, word: str, letter: str, write: Callable[[str], str], client: str | None
) -> dict[str, Any]:
    """A base model after a few examples: the probability of each digit, and the most probable one as its answer."""
    tokenizer = loaded.model.tokenizer
    examples = [count_task(*example, write).shown() for example in EXAMPLES if example[0] != word]
    for shots in range(SHOTS, -1, -1):  # as many as fit
        page = "".join(examples[:shots]) + count_task(word, letter, write).asked()
        ids = [tokenizer.bos_id, *tokenizer.encode(page)]
        if len(ids) < loaded.engine.context:
            break
    check_prompt(loaded.model, ids, "word")
    cut = {digit: tokenizer.encode(digit) for digit in DIGITS}
    single = {digit: ids_of[0] for digit, ids_of in cut.items() if len(ids_of) == 1}
    p_v = (await logits.of(loaded, ids)).softmax(-1)
    shares = {digit: float(p_v[id]) for digit, id in single.items()}
    said = max(shares, key=lambda digit: shares[digit]) if shares else ""
    return {"prompt": page, "digits": shares, "said": said, "right": said == str(word.count(letter))}


async def _answer(
    loaded: LoadedModel, logits: LastLogits, word: str, letter: str, write: Callable[[str], str], client: str | None
) -> dict[str, Any]:
    """A model that chats, asked as one from elsewhere is."""
    model: ServedModel = loaded.model
    question = AT_ONCE.format(f"How many times is the letter '{letter}' in '{write(word)}'?")
    ids = question_prompt(model.tokenizer, question)
    check_prompt(model, ids, "word")
    sampling = Sampling(temperature=0, max_tokens=COUNT_TOKENS)
    deltas = await loaded.admission.admit([GenerationRequest(ids, sampling, 0)], client).all_deltas()
    said = "".join(delta.text for _, delta in deltas).strip()
    return {"prompt": question, "digits": None, "said": said, "right": is_correct(said, str(word.count(letter)))}


def count_task(word: str, letter: str, write: Callable[[str], str]) -> ChoiceTask:
    """The stage's question, for any letter and any digit."""
    answer = (str(word.count(letter)),)
    return ChoiceTask(f"How many {letter} are in {write(word)}?", " The answer is ", answer, DIGITS)
