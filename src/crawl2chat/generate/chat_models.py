"""A model that is asked: in this process or on a server, with one interface, for data that models write and judge.

What was asked is kept in a file: a run that was killed goes on from there, and nothing is paid for twice.
"""

import json
import re
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import xxhash

from crawl2chat.generate.engine import Engine
from crawl2chat.generate.kept import KeptAnswers
from crawl2chat.generate.settings import Sampling
from crawl2chat.model import WeightForm, load_to_generate
from crawl2chat.stages.chat_server import MAX_FAILURES, ChatServer, NoAnswer
from crawl2chat.stages.files import AnyPath, StageError
from crawl2chat.stages.progress import Progress
from crawl2chat.stages.stage import hash_path
from crawl2chat.tokenizer import Message, Tokenizer

Messages = Sequence[Message]  # a conversation up to where an answer begins
CONTEXT = 2048  # tokens of a question with its examples and passages, and of its answer
BATCH = 32
AT_ONCE = 32  # conversations between two writes to the file of answers


class ChatModel(Protocol):
    """Answers conversations. `name` is what its work is signed with."""

    name: str

    def answer(self, conversations: Sequence[Messages], sampling: Sampling) -> list[str | None]:
        """Return an answer to each; None where there is none, as for one that is longer than the context."""
        ...

    def weigh(self, conversations: Sequence[Messages], choices: Sequence[str]) -> list[list[float] | None]:
        """Return for each conversation how probable each choice is as its answer, adding up to 1; None: no answer."""
        ...


class LocalModel:
    """A model in this process, which answers many conversations as one batch."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine, self.name = engine, name

    def answer(self, conversations: Sequence[Messages], sampling: Sampling) -> list[str | None]:
        encode = self.engine.tokenizer.encode_chat
        prompts = [encode(list(messages), add_generation_prompt=True)[0] for messages in conversations]
        fitting = [i for i, ids in enumerate(prompts) if len(ids) < self.engine.context]
        texts: list[str | None] = [None] * len(prompts)
        # of the prompt alone, so that an answer does not depend on what else is asked
        seeds = [xxhash.xxh32_intdigest(json.dumps(prompts[i]).encode()) for i in fitting]
        completions = self.engine.generate([prompts[i] for i in fitting], sampling, seeds)
        for i, completion in zip(fitting, completions, strict=True):
            texts[i] = completion.text
        return texts

    def weigh(self, conversations: Sequence[Messages], choices: Sequence[str]) -> list[list[float] | None]:
        """Read off the distribution of the token in which the choices differ; one token is drawn, from them alone."""
        import numpy as np

        told_apart = [choice_ids(self.engine.tokenizer, messages, choices) for messages in conversations]
        fitting = [i for i, (prompt, _) in enumerate(told_apart) if len(prompt) < self.engine.context]
        sampling = Sampling(temperature=0, max_tokens=1, top_logprobs=len(choices))
        completions = self.engine.generate(
            [told_apart[i][0] for i in fitting],
            sampling,
            rules=[lambda written, ids=told_apart[i][1]: ids for i in fitting],  # type: ignore[misc]
        )
        weights: list[list[float] | None] = [None] * len(told_apart)
        for i, completion in zip(fitting, completions, strict=True):
            log_p = dict(completion.top_controlled[0])
            weights[i] = np.exp([log_p.get(id, -np.inf) for id in told_apart[i][1]]).tolist()
        return weights


def choice_ids(tokenizer: Tokenizer, messages: Messages, choices: Sequence[str]) -> tuple[list[int], list[int]]:
    """Return ids of the conversation up to where answers with these choices differ, and each choice's next id.

    Raises ValueError if two choices begin alike there.
    """
    encoded = [tokenizer.encode_chat([*messages, Message(role="assistant", content=choice)])[0] for choice in choices]
    n = next(i for i, ids in enumerate(zip(*encoded, strict=False)) if len(set(ids)) > 1)
    following = [ids[n] for ids in encoded]
    if len(set(following)) < len(choices):
        raise ValueError(f"the choices {', '.join(choices)} begin with the same token; take others")
    return encoded[0][:n], following


def open_local(folder: AnyPath, weights: WeightForm | None = None) -> LocalModel:
    """Load a model to ask, with its weights in this form; it goes by its hash, so that another one is asked again."""
    model, form = load_to_generate(folder, weights)
    context = min(CONTEXT, model.config.max_position_embeddings)
    engine = Engine(model, Tokenizer.load(folder), BATCH, context=context, empties_model=True, weights=form)
    return LocalModel(engine, f"{Path(folder).resolve().name}@{hash_path(Path(folder))[:12]}")


class ServerModel:
    """A model on a server with OpenAI's chat completions, asked by several threads at a time."""

    def __init__(self, server: ChatServer, threads: int = 4) -> None:
        server.check()
        self.server, self.name, self.threads = server, server.model, threads
        self.failed = 0  # in a row

    def answer(self, conversations: Sequence[Messages], sampling: Sampling) -> list[str | None]:
        """As ChatModel; raises StageError if the server refuses, or has not answered for many questions in a row."""
        fields: dict[str, Any] = {"temperature": sampling.temperature, "max_tokens": sampling.max_tokens}
        if sampling.stop:
            fields["stop"] = list(sampling.stop)
        if sampling.temperature:
            fields["seed"] = sampling.seed
        with ThreadPoolExecutor(self.threads) as pool:
            asked = [pool.submit(self.server.ask, messages, **fields) for messages in conversations]
            try:
                return [self._take(future) for future in asked]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _take(self, future: "Future[str]") -> str | None:
        try:
            text = future.result()
        except NoAnswer as problem:
            self.failed += 1
            if self.failed == MAX_FAILURES:
                raise StageError(
                    f"{self.server.caller}: no answer from {self.server.url} {MAX_FAILURES} times in a row; the last "
                    f"time: {problem}\nThe answers so far are kept; the same command goes on from there."
                ) from problem
            return None
        self.failed = 0
        return text

    def weigh(self, conversations: Sequence[Messages], choices: Sequence[str]) -> list[list[float] | None]:
        """All weight on the choice that an answer names last; models may think aloud first."""
        answers = self.answer(conversations, Sampling(temperature=0, max_tokens=1024))
        named = (named_choice(text or "", choices) for text in answers)
        return [None if choice is None else [float(choice == other) for other in choices] for choice in named]


def named_choice(text: str, choices: Sequence[str]) -> str | None:
    """The choice that a text names last, as a whole word: 4 of "Score: 4/5", nothing of "4.5"."""
    either = "|".join(map(re.escape, choices))
    found = re.findall(rf"(?<![\w/.,-])(?:{either})(?![\w-]|[.,]\d)", text)
    return found[-1] if found else None


class Remembered:
    """A model whose answers are kept in a file, JSON lines, and which is not asked again for what is there.

    label, and `what` is asked for, a plural, are for progress bars; without a label there are none.
    """

    def __init__(self, model: ChatModel, file: Path, label: str) -> None:
        self.model, self.name, self.label = model, model.name, label
        self.kept = KeptAnswers(file)

    def answer(self, conversations: Sequence[Messages], sampling: Sampling, what: str = "answers") -> list[str | None]:
        how = [sampling.temperature, sampling.max_tokens, list(sampling.stop), sampling.seed]
        return self._ask(conversations, how, lambda some: self.model.answer(some, sampling), what)

    def weigh(self, conversations: Sequence[Messages], choices: Sequence[str]) -> list[list[float] | None]:
        return self._ask(conversations, [*choices], lambda some: self.model.weigh(some, choices), "judgements")

    def _ask(
        self,
        conversations: Sequence[Messages],
        how: list[Any],
        ask: Callable[[list[Messages]], Sequence[Any]],
        what: str,
    ) -> list[Any]:
        """What is known, and the answers to the rest, which are asked for some at a time and written down."""
        keys = (json.dumps([self.name, how, list(messages)]) for messages in conversations)
        asked = [xxhash.xxh3_128_hexdigest(key.encode()) for key in keys]
        known = self.kept.known
        todo = list({key: i for i, key in enumerate(asked) if key not in known}.values())
        with Progress(self.label, len(todo), what, quiet=not (self.label and todo)) as bar:
            for begin in range(0, len(todo), AT_ONCE):
                some = todo[begin : begin + AT_ONCE]
                answers = zip(some, ask([conversations[i] for i in some]), strict=True)
                self.kept.add({asked[i]: answer for i, answer in answers if answer is not None})
                bar.update(begin + len(some))
        return [known.get(key) for key in asked]
