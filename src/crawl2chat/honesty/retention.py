"""What a model already answers by itself, learned again next to the new, so that teaching it one thing costs no other.

Answers and texts are the model's own (self-distillation): they teach nothing, they only hold what there is in place.
Texts take the place of the documents that a model from elsewhere was pretrained on, which nobody has.
Among the prompts are famous people, places, books and companies in the words in which invented ones are asked for, or
the model would learn to refuse the words.
"""

from pathlib import Path

from crawl2chat.chat.asking import exchange
from crawl2chat.chat.conversations import Conversation
from crawl2chat.evals.judging import question_prompt
from crawl2chat.generate import Engine, Sampling
from crawl2chat.stages.files import StageError
from crawl2chat.stages.text_files import read_text

EVERYDAY = Path(__file__).with_name("everyday.txt")
TEXT_TOKENS = 160
RETAINED_TOKENS = 160  # maximum length of an answer; longer ones are left out, since their ends are not known


def read_prompts(name: str) -> list[str]:
    """The prompts of a text file, one per line, or of the package's list "everyday". Raises StageError."""
    file = EVERYDAY if name == "everyday" else Path(name).expanduser()
    try:
        prompts = [line.strip() for line in read_text(file).split("\n") if line.strip()]
    except OSError as error:
        raise StageError(
            f"honesty.retention = {name}: {error.strerror}; expected everyday or a file of prompts"
        ) from error
    if not prompts:
        raise StageError(f"{file}: holds no prompt; expected one per line")
    return prompts


def own_answers(engine: Engine, prompts: list[str]) -> list[Conversation]:
    """The prompts with the model's most probable answers, as far as those come to an end."""
    ids = [question_prompt(engine.tokenizer, prompt) for prompt in prompts]
    completions = engine.generate(ids, Sampling(temperature=0, max_tokens=RETAINED_TOKENS))
    answers = zip(prompts, completions, strict=True)
    return [exchange(prompt, c.text.strip()) for prompt, c in answers if c.finish_reason == "stop" and c.text.strip()]


def own_texts(engine: Engine, count: int, seed: int) -> list[list[int]]:
    """Ids of texts that the model writes at temperature 1, each from the token that begins a document."""
    begins = [[engine.tokenizer.bos_id]] * count
    completions = engine.generate(begins, Sampling(temperature=1, max_tokens=TEXT_TOKENS, seed=seed))
    return [[*begin, *completion.ids] for begin, completion in zip(begins, completions, strict=True)]
