"""The page Ranking: what is shown to whom, how they ranked it, and how far they agree."""

import asyncio
import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, FiniteFloat
from starlette.requests import Request

from crawl2chat.rl.preferences import preference_files as files
from crawl2chat.rl.preferences.agreement import report
from crawl2chat.rl.preferences.collect import rewards_as_shown
from crawl2chat.rl.preferences.plan import Needed, Plan, Source, one_each
from crawl2chat.rl.preferences.rank import ANSWER_TOKENS
from crawl2chat.rl.preferences.reward_model import RewardModel
from crawl2chat.rl.preferences.store import (
    MOST_ANSWERS,
    Answer,
    Prompt,
    Ranking,
    RankingStore,
    Verdict,
    now,
)
from crawl2chat.serve.api.prompts import chat_prompt
from crawl2chat.serve.api.requests import ChatRequest, Strict
from crawl2chat.serve.app.context import AppContext
from crawl2chat.serve.engine_thread import GenerationRequest
from crawl2chat.serve.errors import ApiError, bad_request
from crawl2chat.serve.http import get, post
from crawl2chat.stages.disks import describe
from crawl2chat.stages.files import StageError
from crawl2chat.tokenizer import Tokenizer

GUIDELINES = Path(__file__).with_name("guidelines.txt")
MAX_GUIDELINES = 100_000  # characters
MAX_SECONDS = 7 * 24 * 3600.0
CONTROL = re.compile(r"[\x00-\x1f\x7f]")

Name = Annotated[str, Field(min_length=1, max_length=100)]
Tied = Annotated[list[int], Field(max_length=MOST_ANSWERS)]  # places of answers as they were shown, from 0


class NextRequest(Strict):
    annotator: Name
    answers: Annotated[int, Field(ge=2, le=MOST_ANSWERS)] = 4
    sources: Annotated[list[Name], Field(min_length=1, max_length=MOST_ANSWERS)] | None = None  # None: the default one


class JudgeRequest(Strict):
    annotator: Name
    assignment: Annotated[int, Field(ge=1, lt=1 << 62)]
    verdict: Verdict
    best_first: Annotated[list[Tied], Field(max_length=MOST_ANSWERS)] | None = None  # of "ranked" alone
    seconds: Annotated[FiniteFloat, Field(ge=0, le=MAX_SECONDS)]
    reveal: bool = False


class UndoRequest(Strict):
    annotator: Name


class ImportRequest(Strict):
    annotator: Name
    text: str


class RankingPage:
    """The store is opened when it is first needed; its files are read and written in threads, not in the event loop."""

    def __init__(self, context: AppContext) -> None:
        self.context = context
        self.file = context.ranking.store or context.folder / "rankings.sqlite"
        guidelines = context.ranking.guidelines or GUIDELINES
        try:
            self.guidelines = guidelines.read_text(encoding="utf-8")[:MAX_GUIDELINES]
        except (OSError, UnicodeError) as error:
            raise StageError(f"guidelines {guidelines}: can't be read as text: {error}") from error
        self._prompts = files.read_prompts(context.ranking.prompts) if context.ranking.prompts else None
        self._store: RankingStore | None = None
        self._opening = threading.Lock()
        self._making: dict[Needed, asyncio.Task[list[Answer]]] = {}
        self._rewards = Rewards(context.run)

    @get("/app/ranking/about")
    def about(self, request: Request) -> dict[str, Any]:
        """The questions count repeats, as an annotator's progress does, so that the two do not give them away."""
        questions, problem = None, None
        try:
            plan = Plan(RankingStore(), self._read_prompts(), self.context.ranking.repeat_every)
            questions = plan.progress("").total
        except StageError as error:
            problem = str(error)
        return {
            "guidelines": self.guidelines, "questions": questions, "problem": problem, "most_answers": MOST_ANSWERS,
            "reward_model": self._rewards.exists,
        }  # fmt: skip

    @post("/app/ranking/next", NextRequest)
    async def next(self, request: Request, body: NextRequest) -> dict[str, Any]:
        """What the annotator is to judge now; the same again until that is judged."""
        annotator = _name(body.annotator)
        names: Sequence[str | None] = body.sources or [None]
        models = [self.context.pool.find(name) for name in dict.fromkeys(names)]
        try:
            sources = one_each([Source(model.name, model.stage) for model in models], body.answers)
        except ValueError as error:
            raise bad_request(str(error), "sources") from error
        with self._disk_errors():
            plan = await asyncio.to_thread(self._open)
            step = await asyncio.to_thread(plan.next, annotator, sources)
        if isinstance(step, Needed):
            answers = await self._answers(step)
            with self._disk_errors():
                step = await asyncio.to_thread(plan.assign, step, answers, annotator)
        with self._disk_errors():
            progress = await asyncio.to_thread(plan.progress, annotator)
        # before judging, neither who wrote an answer nor whether this is a repeat may be seen
        shown = step and {
            "id": step.id, "messages": step.asked.messages,
            "answers": [{"text": answer.text, "ended": answer.ended} for answer in step.answers],
        }  # fmt: skip
        return {"assignment": shown, "progress": {**asdict(progress), "done": progress.done}}

    @post("/app/ranking/judge", JudgeRequest)
    def judge(self, request: Request, body: JudgeRequest) -> dict[str, Any]:
        """On disk when this answers. Who wrote the answers is reported afterwards, if that is wanted."""
        annotator, seconds = _name(body.annotator), round(body.seconds, 1)
        with self._disk_errors():
            store = self._open().store
            try:
                assignment = store.assignment(body.assignment)
                if assignment.annotator != annotator:
                    raise ValueError(f"assignment = {body.assignment}: was shown to somebody else")
                store.judge(assignment.id, body.best_first or [], verdict=body.verdict, seconds=seconds, time=now())
            except ValueError as error:
                raise ApiError(409, str(error), code="not_stored") from error
        written_by = [{"author": a.author, "stage": a.stage} for a in assignment.answers] if body.reveal else None
        return {"stored": True, "written_by": written_by}

    @post("/app/ranking/undo", UndoRequest)
    def undo(self, request: Request, body: UndoRequest) -> dict[str, bool]:
        """Take the annotator's last judgement back; `next` then shows what it was about."""
        annotator = _name(body.annotator)
        with self._disk_errors():
            return {"undone": self._open().store.withdraw(annotator) is not None}

    @get("/app/ranking/agreement")
    def agreement(self, request: Request) -> dict[str, Any]:
        with self._disk_errors():
            judgements = self._store_to_read().judgements()
        return report(judgements, self._rewards.of(judgements))

    @get("/app/ranking/export/{form}")
    def export(self, request: Request) -> dict[str, Any]:
        """All judgements that stand, as JSON lines: `lists`, or `pairs` as TRL reads them."""
        forms: dict[str, Callable[..., Any]] = {"lists": files.ranked_lines, "pairs": files.pair_lines}
        form = forms.get(request.path_params["form"])
        if form is None:
            raise ApiError(404, f"there is no export {request.path_params['form'][:100]!r}; expected lists or pairs")
        with self._disk_errors():
            lines = list(form(self._store_to_read().judgements()))
        return {"text": "".join(lines), "count": len(lines)}

    @post("/app/ranking/import", ImportRequest)
    def import_(self, request: Request, body: ImportRequest) -> dict[str, int]:
        """Ranked lists or pairs, all or none of them."""
        annotator = _name(body.annotator)
        try:
            judgements = files.parse_judgements(files.rows_of_text(body.text), annotator)
        except ValueError as error:
            raise bad_request(str(error), "text") from error
        if not judgements:
            raise bad_request("text: has no ranked lists and no pairs", "text")
        with self._disk_errors():
            added = files.import_judgements(self._open_store(), judgements)
        return {"added": added, "known": len(judgements) - added}

    # what these share

    def _read_prompts(self) -> list[Prompt]:
        """Raises StageError where there is nothing to ask."""
        if self._prompts is None:
            why = "give the server prompts to ask, JSON lines in --prompts FILE"
            if self.context.run is None:
                raise StageError(f"this is one model and not a run; {why}")
            try:
                self._prompts = files.read_prompts(self.context.run / "crawl")
            except StageError as error:
                raise StageError(f"this run has no prompts to ask; {why}") from error
        return self._prompts

    def _open(self) -> Plan:
        prompts = self._read_prompts()  # or there is no need for a store
        return Plan(self._open_store(), prompts, self.context.ranking.repeat_every)

    def _store_to_read(self) -> RankingStore:
        """An empty one where nobody has ranked yet."""
        return self._open_store() if self.file.exists() else RankingStore()

    def _open_store(self) -> RankingStore:
        with self._opening:
            if self._store is None:
                self._store = RankingStore(self.file)
            return self._store

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        """Report what is wrong with files as an ApiError: it is for people to know."""
        try:
            yield
        except StageError as error:
            raise ApiError(409, str(error), code="not_possible") from error
        except OSError as error:
            raise ApiError(507, describe(error) or f"{self.file.name}: {error.strerror}", code="not_stored") from error

    async def _answers(self, needed: Needed) -> list[Answer]:
        """Made once, however many annotators ask for them at the same time."""
        task = self._making.get(needed)
        if task is None:
            task = self._making[needed] = asyncio.create_task(self._sample(needed))
            task.add_done_callback(lambda _: self._making.pop(needed, None))
        return await asyncio.shield(task)

    async def _sample(self, needed: Needed) -> list[Answer]:
        """One answer by each source, all of them at temperature 1."""
        made: dict[int, Answer] = {}
        body = ChatRequest(messages=needed.prompt.messages, temperature=1.0, max_tokens=ANSWER_TOKENS, seed=0)
        for source in dict.fromkeys(needed.sources):
            places = [place for place, other in enumerate(needed.sources) if other == source]
            loaded = await self.context.pool.load(source.author)
            prompt, sampling, rule = await asyncio.to_thread(chat_prompt, loaded.model, body)
            seeds = [needed.number * len(needed.sources) + place for place in places]
            wanted = [GenerationRequest(prompt, sampling, seed, rule=rule) for seed in seeds]
            texts, ended = [""] * len(places), [False] * len(places)
            for index, delta in await loaded.admission.admit(wanted, "ranking").all_deltas():
                texts[index] += delta.text
                ended[index] = delta.finish_reason == "stop"
            answers = [Answer(text, end, source.author, source.stage) for text, end in zip(texts, ended, strict=True)]
            made |= zip(places, answers, strict=True)
        return [made[place] for place in range(len(needed.sources))]


class Rewards:
    """The reward model of a run, if it has one, and what it gave for answers that were ranked."""

    def __init__(self, run: Path | None) -> None:
        self.folder = run / "prefer" if run else None
        self._lock = threading.Lock()
        self._model: tuple[RewardModel, Tokenizer] | None = None
        self._known: dict[int, list[float]] = {}

    @property
    def exists(self) -> bool:
        return self.folder is not None and (self.folder / "reward_model" / "config.json").exists()

    def of(self, judgements: Sequence[Ranking]) -> dict[int, list[float]] | None:
        """Of the answers in each ranking, by its id; None without a reward model. Not for the event loop."""
        if self.folder is None or not self.exists:
            return None
        import torch

        with self._lock:
            torch.set_num_threads(1)  # of this thread, which is not to take the engine's cores
            if self._model is None:
                self._model = RewardModel.load(self.folder / "reward_model"), Tokenizer.load(self.folder)
            new = [r for r in judgements if r.verdict == "ranked" and r.id not in self._known]
            for ranking, rewards in zip(new, rewards_as_shown(*self._model, new), strict=True):
                self._known[ranking.id] = rewards
            return dict(self._known)


def _name(text: str) -> str:
    name = text.strip()
    if not name or CONTROL.search(name):
        raise bad_request(f"annotator = {json.dumps(text)}: expected a name", "annotator")
    return name
