"""Prompts, rankings and pairs of answers as JSON lines, to bring and to take away.

- Prompts: `{"prompt": "…"}` or `{"messages": [{"role": "user", "content": "…"}]}`, with `"group"`, a topic, and
  `"split"`: train and probe prompts are ranked and trained on, held_out ones are only measured on.
- Ranked lists, with all that a store has: `{"prompt" or "messages", "answers": [{"text", "ended", "author", "stage"}],
  "best_first": [[2], [0, 1]], "annotator", "verdict", "seconds", "time", "repeat_of"}`. `best_first` has places in
  `answers`, from 0, tied ones in one list; `repeat_of` is the number, from 1, of an earlier line. Answers may be texts.
- Pairs, as TRL reads them: `{"prompt", "chosen", "rejected"}`, each a text or a list of messages; a prompt that is not
  there is what `chosen` and `rejected` have in common. https://huggingface.co/docs/trl/dataset_formats
- Pairs of Anthropic's helpful–harmless files (arXiv 2204.05862): `chosen` and `rejected` are transcripts, whose turns
  begin with an empty line and "Human:" or "Assistant:". Rows in which the two don't differ in one last answer are left
  out and counted.
"""

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

from crawl2chat.chat.messages import MessageError, read_message, shown
from crawl2chat.evals.tasks import Split
from crawl2chat.rl.preferences.store import MAX_ANSWERS, Answer, Prompt, Ranking, RankingStore, Verdict, check_groups
from crawl2chat.stages.files import AnyPath, StageError
from crawl2chat.stages.json_rows import JsonRows, NotJson
from crawl2chat.tokenizer import Message, Tokenizer

PROMPTS = "prompts.jsonl"
HELD_OUT_SHARE = 0.2  # of the groups of prompts without a split
MAX_PROBLEMS = 5
MAX_SECONDS = 1e9  # of a judgement, some 30 years; SQLite can't hold whole numbers of any length
MAIN_FIELDS = {"prompt", "messages", "chosen", "answers"}
_TURN = re.compile(r"\n\n(Human|Assistant):")
_SPEAKERS = {"Human": "user", "Assistant": "assistant"}

Row = TypeVar("Row")
Rows = Iterable[tuple[int, Any]]  # numbers, and what JSON holds


class LeftOut(ValueError):
    """Why a row of somebody else's file says nothing: it is counted, and the others are used."""


@dataclass(frozen=True)
class PromptRow:
    """A prompt, its topic, by which prompts are held out together, and what it may be used for; None: nobody said."""

    prompt: Prompt
    group: str
    split: Split | None = None

    @property
    def text(self) -> str:
        return self.prompt.text

    def ids(self, tokenizer: Tokenizer) -> list[int]:
        """The conversation up to where an answer begins."""
        return tokenizer.encode_chat(self.prompt.messages, add_generation_prompt=True)[0]


def read_prompt_rows(source: AnyPath) -> list[PromptRow]:
    """Return the prompts of a file, or of `prompts.jsonl` in a folder; one without a group is its own.

    Of a file of pairs they are what the pairs answer, each once; conversations that begin alike are then one group.

    Raises StageError for a file that can't be read, has no prompts, or has rows that are not prompts.
    """
    file = Path(source) / PROMPTS if Path(source).is_dir() else Path(source)
    if not file.is_file():
        what = f"a folder without {PROMPTS}" if Path(source).is_dir() else "no such file"
        raise StageError(f'{source}: {what}; expected a file of prompts, JSON lines such as {{"prompt": "…"}}')
    try:
        prompts = list(dict.fromkeys(_read_all(_rows_of(file), lambda row, number: _prompt_row_of(row), Counter())))
    except ValueError as error:
        raise StageError(f"{file}: {error}") from error
    if not prompts:
        raise StageError(f'{file}: has no prompts; expected JSON lines such as {{"prompt": "…"}}')
    return prompts


def read_prompts(source: AnyPath) -> list[Prompt]:
    """Return the prompts that may be ranked: all but those that are held out. Raises StageError if there is none."""
    prompts = [row.prompt for row in read_prompt_rows(source) if row.split != "held_out"]
    if not prompts:
        raise StageError(f"{source}: all prompts are held out, so none may be ranked")
    return prompts


def split_prompts(
    rows: Sequence[PromptRow], source: object, simulated: bool = False
) -> tuple[list[PromptRow], list[PromptRow]]:
    """Return prompts to rank and train on, and prompts to measure on, in the order given.

    Of prompts without a split a fifth of the groups is held out. No seed decides which, so that two runs hold out the
    same. simulated: whether the simulated annotator ranks answers to the prompts; the reward model is then measured on
    some of their groups. Raises StageError if either part is empty, and if there is only one group for that.
    """
    groups = sorted({row.group for row in rows if row.split is None})
    random.Random("held-out groups").shuffle(groups)
    held_out = set(groups[: max(1, round(HELD_OUT_SHARE * len(groups)))] if groups else [])
    parts: tuple[list[PromptRow], list[PromptRow]] = ([], [])
    for row in rows:
        parts[row.split == "held_out" or (row.split is None and row.group in held_out)].append(row)
    if not all(parts):
        raise StageError(
            f"{source}: {len(parts[0])} prompts to rank and {len(parts[1])} to measure on; at least 1 of each is "
            'needed: give some "split": "train" and others "split": "held_out", or leave out splits and give several '
            "groups, since a group is held out as a whole"
        )
    if simulated and len({row.group for row in parts[0]}) < 2:
        raise StageError(
            f"{source}: all {len(parts[0])} prompts to rank are in the group {parts[0][0].group!r}; at least 2 groups "
            "are needed, to fit the reward model to some and measure it with others (by default, each prompt is one)"
        )
    return parts


def holds_judgements(source: AnyPath) -> bool:
    """Whether a file's first row is a ranked list or a pair, and not a mere prompt."""
    first = next((row for _, row in _rows_of(Path(source))), None) if Path(source).is_file() else None
    return isinstance(first, dict) and not {"chosen", "answers"}.isdisjoint(first)


def read_judgements(file: AnyPath, annotator: str, left_out: Counter[str] | None = None) -> list[Ranking]:
    """Ranked lists or pairs. annotator: of rows that name none. Raises StageError for what is neither.

    left_out: counts rows of transcripts that can't be used, by reason; without it they are an error, too.
    """
    try:
        return parse_judgements(_rows_of(Path(file)), annotator, left_out)
    except ValueError as error:
        raise StageError(f"{file}: {error}") from error


def parse_judgements(rows: Rows, annotator: str, left_out: Counter[str] | None = None) -> list[Ranking]:
    """Ids are the rows' numbers. Raises ValueError that names the first rows that are neither list nor pair."""
    return _read_all(rows, lambda row, number: _judgement_of(row, number, annotator), left_out)


def rows_of_text(text: str) -> Iterator[tuple[int, Any]]:
    """Of JSON lines; a line that is not JSON is a NotJson."""
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                yield number, NotJson(str(error), line.strip()[:40])


def import_judgements(store: RankingStore, judgements: Sequence[Ranking]) -> int:
    """Add those that the store did not have, all or none of them; returns how many."""
    known = {replace(ranking, id=0, repeat_of=None) for ranking in store.judgements()}
    new = [ranking for ranking in judgements if replace(ranking, id=0, repeat_of=None) not in known]
    ids = {ranking.id for ranking in new}
    # a repeat whose first time is in the store already is a judgement like any other
    store.add_all([r if r.repeat_of in ids else replace(r, repeat_of=None) for r in new])
    return len(new)


def ranked_lines(judgements: Iterable[Ranking]) -> Iterator[str]:
    """Lines of ranked lists, with their line ends."""
    numbers: dict[int | None, int] = {}
    for number, ranking in enumerate(judgements, 1):
        numbers[ranking.id] = number
        asked = {"messages": ranking.asked.messages} if ranking.asked.conversation else {"prompt": ranking.prompt}
        row = {
            **asked,
            "answers": [asdict(answer) for answer in ranking.answers],
            "best_first": ranking.best_first, "annotator": ranking.annotator, "verdict": ranking.verdict,
            "seconds": ranking.seconds, "time": ranking.time, "repeat_of": numbers.get(ranking.repeat_of),
        }  # fmt: skip
        yield _line(row)


def pair_lines(judgements: Iterable[Ranking]) -> Iterator[str]:
    """Lines of every two answers of which one was put before the other; tied ones make no pair."""
    for ranking in judgements:
        for better, worse in combinations(ranking.groups, 2):
            for chosen in better:
                for rejected in worse:
                    yield _line({
                        "prompt": ranking.asked.messages,
                        "chosen": [{"role": "assistant", "content": chosen.text}],
                        "rejected": [{"role": "assistant", "content": rejected.text}],
                    })  # fmt: skip


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


def _rows_of(file: Path) -> JsonRows:
    return JsonRows(file, lambda value: isinstance(value, dict) and bool(MAIN_FIELDS & value.keys()))


def _read_all(
    rows: Rows, read: Callable[[dict[str, Any], int], Row], left_out: Counter[str] | None = None
) -> list[Row]:
    """Raises ValueError that names the first rows with a problem."""
    found, problems, count = [], [], 0
    for number, row in rows:
        try:
            if isinstance(row, NotJson):
                raise ValueError(f"is not JSON: {row.problem}; it begins with {row.begin!r}")
            if not isinstance(row, dict):
                raise ValueError(f"expected an object, not {shown(row)}")
            found.append(read(row, number))
            _check_encodable(row)
        except ValueError as error:  # MessageError, too
            if isinstance(error, LeftOut) and left_out is not None:
                left_out[str(error)] += 1
                continue
            count += 1
            problems += [f"line {number}: {error}"] if count <= MAX_PROBLEMS else []
    if problems:
        more = f"; and {count - len(problems)} more" if count > len(problems) else ""
        raise ValueError("; ".join(problems) + more)
    return found


def _check_encodable(row: dict[str, Any]) -> None:
    """Raise ValueError for halves of surrogate pairs, which JSON can write and no file of ours can hold."""
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("holds half of a surrogate pair, which is not text") from None


def _prompt_row_of(row: dict[str, Any]) -> PromptRow:
    split = row.get("split")
    if "chosen" in row:
        prompt = _pair_of(row)[0]
        own_group = next((message["content"] for message in prompt.messages if message["role"] == "user"), prompt.text)
    else:
        prompt = _prompt_of(row)
        own_group = prompt.text
    group = own_group if row.get("group") is None else row["group"]
    if not isinstance(group, str) or not group.strip():
        raise ValueError(f"group = {shown(group)}: expected a text")
    if split is not None and split not in get_args(Split):
        raise ValueError(f"split = {shown(split)}: expected one of {', '.join(get_args(Split))}")
    return PromptRow(prompt, group, split)


def _prompt_of(row: dict[str, Any]) -> Prompt:
    value = row["messages"] if row.get("messages") is not None else row.get("prompt")
    if isinstance(value, str) and value.strip():
        return Prompt(value)
    if not isinstance(value, list) or not value:
        raise ValueError('expected "prompt" (a text) or "messages" (a list of {"role", "content"})')
    return _asking([read_message(message) for message in value])


def _asking(messages: list[Message]) -> Prompt:
    if messages[-1]["role"] not in ("user", "tool"):
        raise ValueError(f"the last message is of the {messages[-1]['role']}; expected one that is to be answered")
    return Prompt.of(messages)


def _judgement_of(row: dict[str, Any], number: int, annotator: str) -> Ranking:
    given = row.get("annotator")
    if given is not None and (not isinstance(given, str) or not given.strip()):
        raise ValueError(f"annotator = {shown(given)}: expected a name")
    if "chosen" in row or "rejected" in row:
        asked, chosen, rejected = _pair_of(row)
        order = ((0, 1),) if chosen == rejected else ((0,), (1,))  # equal answers are a tie
        return Ranking(number, asked, (Answer(chosen, True, "chosen"), Answer(rejected, True, "rejected")),
                       given or annotator, None, order)  # fmt: skip
    asked, answers = _prompt_of(row), _answers_of(row.get("answers"))
    verdict = row.get("verdict") or "ranked"
    if verdict not in get_args(Verdict):
        raise ValueError(f"verdict = {shown(verdict)}: expected one of {', '.join(get_args(Verdict))}")
    seconds, time, repeat_of = row.get("seconds"), row.get("time"), row.get("repeat_of")
    if seconds is not None and (type(seconds) not in (int, float) or not 0 <= seconds <= MAX_SECONDS):
        raise ValueError(f"seconds = {shown(seconds)}: expected a number of seconds")
    if time is not None and not isinstance(time, str):
        raise ValueError(f"time = {shown(time)}: expected a text")
    if repeat_of is not None and not (type(repeat_of) is int and 1 <= repeat_of < number):
        raise ValueError(f"repeat_of = {shown(repeat_of)}: expected the number of an earlier line")
    groups = check_groups(_groups_of(row.get("best_first")), len(answers), cast(Verdict, verdict))
    return Ranking(number, asked, answers, given or annotator, repeat_of, groups, cast(Verdict, verdict), seconds, time)


def _answers_of(value: object) -> tuple[Answer, ...]:
    if not isinstance(value, list) or not 2 <= len(value) <= MAX_ANSWERS:
        raise ValueError(f"answers: expected a list of 2 to {MAX_ANSWERS}")
    answers = []
    for item in value:
        fields = {"text": item} if isinstance(item, str) else item
        if not isinstance(fields, dict) or not isinstance(fields.get("text"), str):
            raise ValueError(f'answers: expected texts or {{"text": "…"}}, not {shown(item)}')
        author, stage, ended = fields.get("author"), fields.get("stage"), fields.get("ended", True)
        if not all(other is None or isinstance(other, str) for other in (author, stage)) or not isinstance(ended, bool):
            raise ValueError(f"answers: author and stage are texts and ended is true or false, not {shown(item)}")
        answers.append(Answer(fields["text"], ended, author or "unknown", stage))
    return tuple(answers)


def _groups_of(value: object) -> Sequence[int | Sequence[int]]:
    places = value if isinstance(value, list) else [] if value is None else None
    if places is None or not all(
        type(place) is int or (isinstance(place, list) and all(type(tied) is int for tied in place)) for place in places
    ):
        raise ValueError(f"best_first = {shown(value)}: expected a list of places, such as [2, [0, 1]]")
    return places


def _pair_of(row: dict[str, Any]) -> tuple[Prompt, str, str]:
    chosen, rejected = row.get("chosen"), row.get("rejected")
    if isinstance(chosen, str) and isinstance(rejected, str):
        if "prompt" not in row and _TURN.match(chosen) and _TURN.match(rejected):
            return _pair_of_transcripts(chosen, rejected)
        same = next((i for i, (one, other) in enumerate(zip(chosen, rejected, strict=False)) if one != other), 0)
        begins = max(chosen.rfind(" ", 0, same), chosen.rfind("\n", 0, same)) + 1
        if row.get("prompt") is None and chosen[:begins].strip():
            return Prompt(chosen[:begins].strip()), chosen[begins:], rejected[begins:]
        return _prompt_of(row), chosen, rejected
    if not (isinstance(chosen, list) and isinstance(rejected, list) and chosen and rejected):
        raise ValueError("chosen and rejected: expected two texts, or two lists of messages")
    messages, others = ([read_message(message) for message in value] for value in (chosen, rejected))
    if messages[:-1] != others[:-1] or messages[-1]["role"] != "assistant" or others[-1]["role"] != "assistant":
        raise ValueError(
            "chosen and rejected: expected conversations that differ in their last message, an assistant's"
        )
    before = messages[:-1]
    if row.get("prompt") is not None and not before:
        before = _prompt_of(row).messages
    if not before:
        raise MessageError("prompt", "is missing")
    return _asking(before), messages[-1]["content"], others[-1]["content"]


def _pair_of_transcripts(chosen: str, rejected: str) -> tuple[Prompt, str, str]:
    messages, others = _turns(chosen), _turns(rejected)
    if [message["role"] for message in messages] != ["user", "assistant"] * (len(messages) // 2):
        raise LeftOut("turns of Human and Assistant don't alternate up to an answer")
    if messages[:-1] != others[:-1] or others[-1]["role"] != "assistant":
        raise LeftOut("chosen and rejected differ before their last answer")
    if not all(message["content"] for message in [*messages, others[-1]]):
        raise LeftOut("an empty turn")
    return Prompt.of(messages[:-1]), messages[-1]["content"], others[-1]["content"]


def _turns(transcript: str) -> list[Message]:
    _, *parts = _TURN.split(transcript)
    return [
        Message(role=_SPEAKERS[who], content=said.strip()) for who, said in zip(parts[::2], parts[1::2], strict=True)
    ]
