"""What the page Ranking asks: whom to show what, what they said about it, and how far they agree."""

import asyncio
import json
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, FiniteFloat
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from crawl2chat.rl.preferences import preference_files as files
from crawl2chat.rl.preferences.agreement import report
from crawl2chat.rl.preferences.collect import rewards_as_shown
from crawl2chat.rl.preferences.plan import Needed, Plan, Source, one_each
from crawl2chat.rl.preferences.rank import ANSWER_TOKENS
from crawl2chat.rl.preferences.reward_model import RewardModel
from crawl2chat.rl.preferences.store import (
    MOST_ANSWERS,
    Answer,
    Assignment,
    Prompt,
    Ranking,
    RankingStore,
    Verdict,
    now,
)
from crawl2chat.rl.preferences.verses import verse_prompts
from crawl2chat.serve.app.house import House
from crawl2chat.serve.desk import Wanted
from crawl2chat.serve.errors import ApiError, refused
from crawl2chat.serve.prompts import chat_prompt
from crawl2chat.serve.requests import ChatRequest, Strict, parse
from crawl2chat.stages.disks import describe
from crawl2chat.stages.files import StageError
from crawl2chat.tokenizer import Tokenizer

GUIDELINES = Path(__file__).with_name("guidelines.txt")
MOST_GUIDELINES = 100_000  # characters
MOST_SECONDS = 7 * 24 * 3600.0
CONTROL = re.compile(r"[\x00-\x1f\x7f]")

Result = TypeVar("Result")
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
    seconds: Annotated[FiniteFloat, Field(ge=0, le=MOST_SECONDS)]
    reveal: bool = False


class UndoRequest(Strict):
    annotator: Name


class ImportRequest(Strict):
    annotator: Name
    text: str


def routes(house: House) -> list[Route]:
    """Raises StageError for files of prompts or guidelines that can't be used."""
    page = RankingPage(house)
    return [
        Route("/app/ranking/about", page.about),
        Route("/app/ranking/next", page.next, methods=["POST"]),
        Route("/app/ranking/judge", page.judge, methods=["POST"]),
        Route("/app/ranking/undo", page.undo, methods=["POST"]),
        Route("/app/ranking/agreement", page.agreement),
        Route("/app/ranking/export/{form}", page.export),
        Route("/app/ranking/import", page.import_, methods=["POST"]),
    ]


class RankingPage:
    """The store is opened when it is first needed; its files are read and written in threads, not in the event loop."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.file = house.ranking.store or house.folder / "rankings.sqlite"
        self.guidelines = _read_guidelines(house.ranking.guidelines or GUIDELINES)
        self._prompts = files.read_prompts(house.ranking.prompts) if house.ranking.prompts else None
        self._store: RankingStore | None = None
        self._opening = threading.Lock()
        self._making: dict[Needed, asyncio.Task[list[Answer]]] = {}
        self._rewards = Rewards(house.run)

    async def about(self, request: HttpRequest) -> Response:
        prompts, problem = None, None
        try:
            prompts = len(await asyncio.to_thread(self._asked))
        except StageError as error:
            problem = str(error)
        return JSONResponse({"guidelines": self.guidelines, "prompts": prompts, "problem": problem,
                             "most_answers": MOST_ANSWERS, "reward_model": self._rewards.there})  # fmt: skip

    async def next(self, request: HttpRequest) -> Response:
        """What the annotator is to judge now; the same again until that is judged."""
        asked = parse(NextRequest, await request.body())
        annotator = _name(asked.annotator)
        names: Sequence[str | None] = asked.sources or [None]
        offers = [self.house.shelf.offer(name) for name in dict.fromkeys(names)]
        try:
            sources = one_each([Source(offer.name, offer.stage) for offer in offers], asked.answers)
        except ValueError as error:
            raise refused(str(error), "sources") from error
        plan = await self._on_disk(self._open)
        step = await self._on_disk(lambda: plan.next(annotator, sources))
        if isinstance(step, Needed):
            answers = await self._answers(step)
            needed = step
            step = await self._on_disk(lambda: plan.assign(needed, answers, annotator))
        progress = await self._on_disk(lambda: plan.progress(annotator))
        return JSONResponse({
            "assignment": step and _shown(step),
            "progress": {"done": progress.done, "total": progress.total, "ranked": progress.ranked,
                         "all_bad": progress.all_bad, "skipped": progress.skipped},
        })  # fmt: skip

    async def judge(self, request: HttpRequest) -> Response:
        """On disk when this answers. Who wrote the answers is said afterwards, if that is wanted."""
        asked = parse(JudgeRequest, await request.body())
        annotator, store = _name(asked.annotator), (await self._on_disk(self._open)).store

        def work() -> Assignment:
            assignment = store.assignment(asked.assignment)
            if assignment.annotator != annotator:
                raise ValueError(f"assignment = {asked.assignment}: was shown to somebody else")
            store.judge(
                assignment.id,
                asked.best_first or [],
                verdict=asked.verdict,
                seconds=round(asked.seconds, 1),
                time=now(),
            )
            return assignment

        try:
            assignment = await self._on_disk(work)
        except ValueError as error:
            raise ApiError(409, str(error), code="not_stored") from error
        written_by = [{"author": a.author, "stage": a.stage} for a in assignment.answers] if asked.reveal else None
        return JSONResponse({"stored": True, "written_by": written_by})

    async def undo(self, request: HttpRequest) -> Response:
        """Take the annotator's last judgement back; `next` then shows what it was about."""
        annotator = _name(parse(UndoRequest, await request.body()).annotator)
        store = (await self._on_disk(self._open)).store
        undone = await self._on_disk(lambda: store.withdraw(annotator))
        return JSONResponse({"undone": undone is not None})

    async def agreement(self, request: HttpRequest) -> Response:
        store = await self._on_disk(self._store_to_read)
        judgements = await self._on_disk(store.judgements)
        rewards = await asyncio.to_thread(self._rewards.of, judgements)
        return JSONResponse(await asyncio.to_thread(report, judgements, rewards))

    async def export(self, request: HttpRequest) -> Response:
        """All judgements that stand, as JSON lines: `lists`, or `pairs` as TRL reads them."""
        forms: dict[str, Callable[..., Any]] = {"lists": files.ranked_lines, "pairs": files.pair_lines}
        form = forms.get(request.path_params["form"])
        if form is None:
            raise ApiError(404, f"there is no export {request.path_params['form'][:100]!r}; expected lists or pairs")
        store = await self._on_disk(self._store_to_read)
        lines = await self._on_disk(lambda: list(form(store.judgements())))
        return JSONResponse({"text": "".join(lines), "count": len(lines)})

    async def import_(self, request: HttpRequest) -> Response:
        """Ranked lists or pairs, all or none of them."""
        body = await request.body()
        asked = await asyncio.to_thread(parse, ImportRequest, body)
        annotator = _name(asked.annotator)
        try:
            judgements = await asyncio.to_thread(
                lambda: files.parse_judgements(files.rows_of_text(asked.text), annotator)
            )
        except ValueError as error:
            raise refused(str(error), "text") from error
        if not judgements:
            raise refused("text: has no ranked lists and no pairs", "text")
        store = await self._on_disk(self._open_store)
        added = await self._on_disk(lambda: files.import_judgements(store, judgements))
        return JSONResponse({"added": added, "known": len(judgements) - added})

    # what these share

    def _asked(self) -> list[Prompt]:
        """Raises StageError where there is nothing to ask."""
        if self._prompts is None:
            why = "give the server prompts to ask, JSON lines in --prompts FILE"
            if self.house.run is None:
                raise StageError(f"this is one model and not a run; {why}")
            try:
                verses, _ = verse_prompts(self.house.run / "crawl" / "prompts.jsonl")
            except StageError as error:
                raise StageError(f"this run has no made-up web, whose verses could be asked for; {why}") from error
            if not verses:
                raise StageError(f"this run's made-up web has no verses to ask for; {why}")
            self._prompts = [Prompt(prompt.text) for prompt in verses]
        return self._prompts

    def _open(self) -> Plan:
        prompts = self._asked()  # or there is no need for a store
        return Plan(self._open_store(), prompts, self.house.ranking.repeat_every)

    def _store_to_read(self) -> RankingStore:
        """An empty one where nobody has ranked yet."""
        return self._open_store() if self.file.exists() else RankingStore()

    def _open_store(self) -> RankingStore:
        with self._opening:
            if self._store is None:
                self._store = RankingStore(self.file)
            return self._store

    async def _on_disk(self, work: Callable[[], Result]) -> Result:
        """The result of reading or writing files, in a thread. What is wrong with them is for people to know."""
        try:
            return await asyncio.to_thread(work)
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
        for source in dict.fromkeys(needed.sources):
            places = [place for place, other in enumerate(needed.sources) if other == source]
            made |= zip(places, await self._sample_from(source, needed, places), strict=True)
        return [made[place] for place in range(len(needed.sources))]

    async def _sample_from(self, source: Source, needed: Needed, places: Sequence[int]) -> list[Answer]:
        seat = await self.house.shelf.open(source.author)
        asked = ChatRequest(messages=needed.prompt.messages, temperature=1.0, max_tokens=ANSWER_TOKENS, seed=0)
        prompt, sampling, rule = await seat.compute(lambda engine: chat_prompt(seat.model, asked))
        first = needed.number * len(needed.sources)
        call = seat.desk.admit([Wanted(prompt, sampling, first + place, rule=rule) for place in places], "ranking")
        texts, ended = [""] * len(places), [False] * len(places)
        try:
            async for pieces in call.pieces():
                for index, piece in pieces:
                    texts[index] += piece.text
                    ended[index] = piece.finish_reason == "stop"
        finally:
            call.close()
        return [Answer(text, end, source.author, source.stage) for text, end in zip(texts, ended, strict=True)]


class Rewards:
    """The reward model of a run, if it has one, and what it gave for answers that were ranked."""

    def __init__(self, run: Path | None) -> None:
        self.folder = run / "prefer" if run else None
        self._lock = threading.Lock()
        self._model: tuple[RewardModel, Tokenizer] | None = None
        self._known: dict[int, list[float]] = {}

    @property
    def there(self) -> bool:
        return self.folder is not None and (self.folder / "reward_model" / "config.json").exists()

    def of(self, judgements: Sequence[Ranking]) -> dict[int, list[float]] | None:
        """Of the answers in each ranking, by its id; None without a reward model. Not for the event loop."""
        if self.folder is None or not self.there:
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


def _read_guidelines(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")[:MOST_GUIDELINES]
    except (OSError, UnicodeError) as error:
        raise StageError(f"guidelines {file}: can't be read as text: {error}") from error


def _name(text: str) -> str:
    name = text.strip()
    if not name or CONTROL.search(name):
        raise refused(f"annotator = {json.dumps(text)}: expected a name", "annotator")
    return name


def _shown(assignment: Assignment) -> dict[str, Any]:
    """What an annotator may see before judging: neither who wrote an answer nor whether this is a repeat."""
    return {
        "id": assignment.id, "messages": assignment.asked.messages,
        "answers": [{"text": answer.text, "ended": answer.ended} for answer in assignment.answers],
    }  # fmt: skip
