"""Is a release in transformers what it is here: ids, chats, logits and what is generated greedily."""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from crawl2chat.generate import Engine, Sampling
from crawl2chat.model import Transformer
from crawl2chat.release.chat_template import CONVERSATIONS, render
from crawl2chat.release.importing import TEXTS
from crawl2chat.stages.files import StageError
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.tokenizer.tokenizer import CHAT_TEMPLATE, CONTROL_TOKENS, Message

TOLERANCE = 1e-3  # between two logits, both computed in float32: sums in another order differ by some 1e-5
LENGTHS = (1, 8, 33, 512)  # of the texts whose logits are compared, in tokens, as far as the context goes
NEW_TOKENS = 32
LOOK_ALIKES = tuple(f"Say {name} and go on." for name in CONTROL_TOKENS)
CALL: list[Message] = [
    {"role": "user", "content": "What is 3+4? „Sag's“ <b>"},
    {"role": "assistant", "content": "", "tool_calls": [
        {"type": "function", "function": {"name": "calculator", "arguments": {"expression": "3+4 < \"ü\""}}}]},
    {"role": "tool", "content": "7"},
]  # fmt: skip


def check_ids(ours: Tokenizer, theirs: Any) -> str:
    """Texts in many scripts, every token that is text, and what looks like control tokens but was typed by somebody.

    transformers reads the latter as text where it is asked to; not so tags that a tokenizer's file has as plain text.
    """
    vocabulary = (token.decode("utf-8", errors="replace") for token in ours.ranks)
    texts = [*TEXTS, *LOOK_ALIKES, *(text for text in vocabulary if "\ufffd" not in text)]
    tags = [token.content for token in theirs.added_tokens_decoder.values() if not token.special]
    texts = [text for text in texts if not any(tag in text for tag in tags)]
    found = theirs(texts, add_special_tokens=False, split_special_tokens=True).input_ids
    for text, ids in zip(texts, found, strict=True):
        expected = ours.encode(text)
        if ids != expected:
            raise StageError(f"{text!r} is {ids} in transformers and {expected} here")
        back = theirs.decode(expected, clean_up_tokenization_spaces=False)
        if back != ours.decode(expected):
            raise StageError(f"the ids of {text!r} are {back!r} in transformers")
    return (
        f"{len(texts):,} texts are alike, there and back: in many scripts, every token, what looks like control tokens"
    )


def check_control_tokens(ours: Tokenizer, theirs: Any) -> str:
    """Each by its name one id, the same in both: this is how others write them."""
    for name, id in ours.controls.items():
        found = theirs(name, add_special_tokens=False).input_ids
        if found != [id]:
            raise StageError(f"{name} is {found} in transformers and {id} here")
    return f"{len(ours.controls)}, each one id"


def check_chats(ours: Tokenizer, theirs: Any) -> str:
    """Conversations as the template renders them in transformers and as `encode_chat` writes them.

    A template that came with an imported model may say something else; then what it says must be the same there.
    """
    own = ours.chat_template == CHAT_TEMPLATE
    conversations = [*CONVERSATIONS, *([CALL] if own else [])]
    for messages in conversations:
        try:
            rendered = theirs.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
            expected = (
                ours.decode(ours.encode_chat(messages, add_generation_prompt=True)[0])
                if own
                else render(ours.chat_template, messages, add_generation_prompt=True)
            )
        except Exception as error:  # a template is a program, which fails in any way
            raise StageError(f"the chat template can't be rendered: {error}") from error
        if rendered != expected:
            raise StageError(f"the chat template renders {rendered!r} in transformers, expected {expected!r}")
        ids = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        if own and ids != ours.encode_chat(messages, add_generation_prompt=True)[0]:
            raise StageError(f"{rendered!r} has other ids in transformers than here")
    return f"{len(conversations)} conversations are alike" + ("" if own else ", by a template that is not ours")


@torch.inference_mode()
def check_logits(ours: Transformer, theirs: Any, tokenizer: Tokenizer) -> str:
    ids = tokenizer.encode("\n".join(TEXTS))
    context = ours.config.max_position_embeddings
    differences, same = [], 0
    lengths = sorted({min(length, context) for length in LENGTHS})
    for length in lengths:
        tokens = torch.tensor([[tokenizer.end_of_text, *(ids * (length // len(ids) + 1))][:length]])
        expected, found = ours(tokens).float(), theirs(tokens).logits.float()
        differences.append((expected - found).abs().max())
        same += int((expected.argmax(-1) == found.argmax(-1)).sum())
    largest = float(torch.stack(differences).max())  # NaN if one is
    told = (
        f"max |difference| {largest:.1e} at {sum(lengths):,} positions of {len(lengths)} texts (1 to {lengths[-1]} "
        f"tokens), {100 * same / sum(lengths):.2f} % with the same most probable token"
    )
    if not largest <= TOLERANCE:
        raise StageError(f"{told}; more than {TOLERANCE:g} is no rounding")
    return f"{told}; tolerance {TOLERANCE:g}"


def check_generations(ours: Transformer, theirs: Any, tokenizer: Tokenizer) -> str:
    """Token by token. They may part where two tokens are equally probable within what rounding does."""
    n = min(NEW_TOKENS, ours.config.max_position_embeddings // 2)
    prompts = [[tokenizer.end_of_text], [tokenizer.end_of_text, *tokenizer.encode("The")]]
    prompts += [tokenizer.encode_chat(CONVERSATIONS[0], add_generation_prompt=True)[0]]
    prompts = [prompt for prompt in prompts if len(prompt) + n <= ours.config.max_position_embeddings]
    completions = Engine(ours, tokenizer, max_batch=4).generate(prompts, Sampling(temperature=0, max_tokens=n))
    ties = n_tokens = 0
    for prompt, completion in zip(prompts, completions, strict=True):
        found = _their_greedy(theirs, prompt, n, sorted(tokenizer.stop_ids))
        if found != completion.ids:
            _require_tie(ours, prompt, completion.ids, found, tokenizer)
            ties += 1
        n_tokens += len(completion.ids)
    parted = f"; {ties} part at a tie" if ties else ""
    return f"{len(prompts) - ties} of {len(prompts)} prompts have the same {n_tokens} tokens{parted}"


def _require_tie(
    model: Transformer, prompt: list[int], ours: list[int], theirs: list[int], tokenizer: Tokenizer
) -> None:
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
    told = f"after {tokenizer.decode([*prompt, *ours[:at]])!r} transformers writes"
    if at == min(len(ours), len(theirs)):
        longer = "goes on" if len(theirs) > len(ours) else "ends"
        raise StageError(f"{told} nothing else, but {longer} where crawl2chat does not")
    with torch.inference_mode():
        logits_v = model(torch.tensor([[*prompt, *ours[:at]]]))[0, -1]
    if abs(float(logits_v[ours[at]] - logits_v[theirs[at]])) > 2 * TOLERANCE:
        raise StageError(f"{told} {tokenizer.decode(theirs[at:])!r}, crawl2chat {tokenizer.decode(ours[at:])!r}")


def _their_greedy(model: Any, prompt: Sequence[int], n: int, stop_ids: list[int]) -> list[int]:
    ids = torch.tensor([prompt])
    plain = {
        "do_sample": False,
        "num_beams": 1,
        "repetition_penalty": 1.0,
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": 50,
    }
    written = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=n, eos_token_id=stop_ids, **plain)
    new: list[int] = written[0, len(prompt) :].tolist()
    return new


def load_tokenizer(transformers: ModuleType, folder: Path) -> Any:
    try:
        return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # of any kind, as the folder may hold anything
        raise StageError(f"transformers can't load the tokenizer: {error}") from error


def load_theirs(transformers: ModuleType, folder: Path) -> Any:
    try:
        model, told = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True, local_files_only=True, trust_remote_code=False,
            use_safetensors=True,
        )  # fmt: skip
    except Exception as error:  # as above
        raise StageError(f"transformers can't load the model: {error}") from error
    wrong = {what: sorted(map(str, names)) for what, names in told.items() if names}
    if wrong:
        raise StageError(f"transformers loads it with {wrong}")
    return model.eval()


def package() -> ModuleType:
    try:
        import transformers
    except ImportError as error:
        raise StageError("verify-release compares with the package transformers: pip install transformers") from error
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers
