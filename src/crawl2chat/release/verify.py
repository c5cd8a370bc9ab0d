"""Is an exported folder a release that others can use: complete, sound, and in transformers what it is here?

Checks of the folder come first, and its checksums, which `sha256sum -c` reads, too. Then the release is loaded here
and in transformers, and both must give the same ids, chats, logits and greedy continuations.
"""

import contextlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from crawl2chat.generate import Engine, Sampling
from crawl2chat.model import Transformer, load_model
from crawl2chat.model.huggingface import open_weights, read_config
from crawl2chat.model.weights import check_finite, weight_files
from crawl2chat.release.card_data import STATEMENT, listed, stated_licence
from crawl2chat.release.importing import CONVERSATIONS, TEXTS
from crawl2chat.stages.files import AnyPath, StageError, read_json_object
from crawl2chat.stages.stage import hash_path
from crawl2chat.stages.text_files import NotText, read_text
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.tokenizer.huggingface import CONFIG, TOKENIZER
from crawl2chat.tokenizer.tokenizer import CHAT_TEMPLATE, CONTROL_TOKENS, Message

FILES = ("config.json", "generation_config.json", TOKENIZER, CONFIG, "README.md")
SUMS = "SHA256SUMS"
OWN_WORDS = "README.md"  # the card, which people go on writing
TOLERANCE = 1e-3  # between two logits in float32; sums in another order differ by some 1e-5
LENGTHS = (1, 8, 33, 512)  # tokens of the texts whose logits are compared, as far as the context allows
NEW_TOKENS = 32
LOOK_ALIKES = tuple(f"Say {name} and go on." for name in CONTROL_TOKENS)
CALL: list[Message] = [
    {"role": "user", "content": "What is 3+4? „Sag's“ <b>"},
    {"role": "assistant", "content": "", "tool_calls": [
        {"type": "function", "function": {"name": "calculator", "arguments": {"expression": "3+4 < \"ü\""}}}]},
    {"role": "tool", "content": "7"},
]  # fmt: skip


@dataclass(frozen=True)
class Check:
    """One point of the release: whether it is in order, and what was found, or what is wrong and what to do."""

    name: str
    ok: bool
    found: str


def verify_release(folder: AnyPath) -> list[Check]:
    """Check what the folder holds, then load it here and in transformers and compare, all in float32.

    If config or weights are broken, nothing is compared. Needs memory for two models.
    Raises StageError if there is no folder, or no package transformers.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise StageError(f"{folder}: there is no such folder; expected one that `crawl2chat export --out` wrote")
    transformers = load_transformers()
    checks = [
        _check("files", check_files, folder),
        _check("checksums", check_checksums, folder),
        _check("config", check_config, folder),
        _check("weights", check_weights, folder),
        _check("generation config", check_generation_config, folder),
        _check("card", check_card, folder),
    ]
    broken = [check.name for check in checks if not check.ok and check.name in ("config", "weights")]
    if broken:
        return [*checks, Check("in transformers", False, f"not compared, as {' and '.join(broken)} failed")]
    try:
        tokenizer, their_tokenizer = Tokenizer.load(folder), load_tokenizer(transformers, folder)
        model, their_model = load_model(folder), load_theirs(transformers, folder)
    except StageError as error:
        return [*checks, Check("in transformers", False, f"{error}; so nothing is compared")]
    return [
        *checks,
        Check("in transformers", True, f"{type(their_model).__name__} of version {transformers.__version__}"),
        _check("ids of texts", check_ids, tokenizer, their_tokenizer),
        _check("control tokens", check_control_tokens, tokenizer, their_tokenizer),
        _check("chat template", check_chats, tokenizer, their_tokenizer),
        _check("logits", check_logits, model, their_model, tokenizer),
        _check("greedy generation", check_generations, model, their_model, tokenizer),
    ]


def check_files(folder: Path) -> str:
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise StageError(f"missing: {', '.join(missing)}; export the model again")
    files = weight_files(folder)
    n_bytes = sum(file.stat().st_size for file in files)
    return f"{', '.join(FILES)}, {len(files)} of weights with {n_bytes:,} bytes"


def check_config(folder: Path) -> str:
    """Check for a possible shape, and room for each id of the tokenizer."""
    config, tokenizer = read_config(folder), Tokenizer.load(folder)
    if tokenizer.vocab_size > config.vocab_size:
        raise StageError(
            f"the tokenizer has {tokenizer.vocab_size:,} tokens, config.json a vocabulary of {config.vocab_size:,}; "
            "they are of two models"
        )
    return (
        f"{config.num_hidden_layers} layers, {config.hidden_size} wide, context {config.max_position_embeddings}, "
        f"{tokenizer.vocab_size:,} tokens in a vocabulary of {config.vocab_size:,}"
    )


def check_weights(folder: Path) -> str:
    """Check for names and shapes as in the config, the one type that it names, and finite values."""
    weights = open_weights(folder, read_config(folder))
    types = {str(dtype).removeprefix("torch.") for dtype in weights.dtypes.values()}
    content = read_json_object(folder / "config.json")
    stated = content.get("dtype") or content.get("torch_dtype")
    if types != {str(stated)}:
        raise StageError(f"tensors are of type {', '.join(sorted(types))}, config.json says {stated}")
    for name, tensor in weights.items():
        check_finite(folder, name, tensor)
    return f"{len(weights.shapes)} tensors of {stated}, all as config.json has them, all finite"


def check_generation_config(folder: Path) -> str:
    """Check that generation stops where the model was taught to."""
    content, tokenizer = read_json_object(folder / "generation_config.json"), Tokenizer.load(folder)
    stated = content.get("eos_token_id")
    ends = stated if isinstance(stated, list) else [stated]
    if tokenizer.eos_id not in ends or any(end not in sorted(tokenizer.stop_ids) for end in ends):
        raise StageError(
            f"eos_token_id is {stated}; expected {tokenizer.eos_id}, the tokenizer's eos_token, and nothing but "
            f"what ends a text or a turn, {sorted(tokenizer.stop_ids)}"
        )
    pad = content.get("pad_token_id")
    if pad is not None and not (isinstance(pad, int) and 0 <= pad < tokenizer.vocab_size):
        raise StageError(f"pad_token_id is {pad!r}, which is not an id of the tokenizer")
    return f"ends with {ends}, padded with {pad}"


def check_card(folder: Path) -> str:
    try:
        card = (folder / "README.md").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StageError(f"README.md can't be read: {error}") from error
    if not re.match(r"---\n.*?\n---\n", card, re.DOTALL):
        raise StageError("README.md begins with no front matter (---), which hubs read")
    licence = stated_licence([folder]).get("license")
    if not licence:
        raise StageError("README.md states no licence; export with --license ID")
    if not card.partition(f"\n{STATEMENT}\n")[2].partition("\n## ")[0].strip():
        raise StageError("README.md says nothing of the data; export with --data-license ID, --data-statement FILE")
    return f"licence {listed(licence)}, data statement, {len(card):,} characters"


def write_checksums(folder: Path) -> None:
    files = sorted(file for file in folder.iterdir() if file.name not in (SUMS, OWN_WORDS))
    (folder / SUMS).write_text("".join(f"{hash_path(file)}  {file.name}\n" for file in files), encoding="utf-8")


def check_checksums(folder: Path) -> str:
    """Raises StageError for files changed, removed or added since the release was made, and if there is no list."""
    try:
        lines = read_text(folder / SUMS).splitlines()
    except (OSError, NotText) as error:
        raise StageError(f"{SUMS} can't be read, so whether files have changed is not known: {error}") from error
    listed, changed = {SUMS, OWN_WORDS}, []
    for line in lines:
        found = re.fullmatch(r"([0-9a-f]{64}) [ *]([^/\\]+)", line)
        if not found:
            raise StageError(f"{SUMS} has the line {line!r}; expected a sha256, two blanks and a file's name")
        file = folder / found[2]
        listed.add(file.name)
        if not file.is_file() or hash_path(file) != found[1]:
            changed.append(found[2])
    if changed:
        raise StageError(f"not as they were exported: {', '.join(changed)}; export or download them again")
    # names of what a hub or an editor keeps in a folder begin with a dot
    added = sorted(file.name for file in folder.iterdir() if file.name not in listed and file.name[0] != ".")
    if added:
        raise StageError(f"not exported, and loaders may take it for a part: {', '.join(added)}; remove it")
    return f"{len(lines)} files as they were exported; {OWN_WORDS} is not among them, as people go on writing it"


def check_ids(ours: Tokenizer, theirs: Any) -> str:
    """Compare texts in many scripts, every token that is text, and text that looks like control tokens.

    transformers reads the latter as text if asked to, but not tags that a tokenizer's file declares as plain text.
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
        whole = ours.decode(expected)  # of which transformers takes away a space that SentencePiece put before it
        if back not in (whole, whole.removeprefix(" ") if ours.library else whole):
            raise StageError(f"the ids of {text!r} are {back!r} in transformers")
    return (
        f"{len(texts):,} texts are alike, there and back: in many scripts, every token, what looks like control tokens"
    )


def check_control_tokens(ours: Tokenizer, theirs: Any) -> str:
    """Check that each name is one id, the same in both, since this is how others write them."""
    for name, id in ours.controls.items():
        found = theirs(name, add_special_tokens=False).input_ids
        if found != [id]:
            raise StageError(f"{name} is {found} in transformers and {id} here")
    return f"{len(ours.controls)}, each one id"


def check_chats(ours: Tokenizer, theirs: Any) -> str:
    """Compare conversations as the template renders them in transformers with what `encode_chat` writes.

    The template of an imported model may say something else; then both must render that.
    """
    own = ours.chat_template == CHAT_TEMPLATE
    conversations = [*CONVERSATIONS, *([CALL] if own else [])]
    refused = 0
    for messages in conversations:
        try:
            expected = ours.template.render(messages, add_generation_prompt=True)
        except ValueError as error:
            expected = None
            if messages is CONVERSATIONS[0]:  # a question, which every template takes
                raise StageError(f"the chat template can't be rendered: {error}") from error
        try:
            rendered = theirs.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        except Exception as error:  # a template is a program, which may fail in any way
            if expected is not None:
                raise StageError(f"the chat template can't be rendered in transformers: {error}") from error
            refused += 1
            continue
        if rendered != expected:
            raise StageError(f"the chat template renders {rendered!r} in transformers, expected {expected!r}")
        ids = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        if ids != ours.encode_chat(messages, add_generation_prompt=True)[0]:
            raise StageError(f"{rendered!r} has other ids in transformers than here")
    unlike = f", {refused} of them refused" if refused else ""
    return f"{len(conversations)} conversations are alike{unlike}" + ("" if own else ", by a template that is not ours")


@torch.inference_mode()
def check_logits(ours: Transformer, theirs: Any, tokenizer: Tokenizer) -> str:
    ids = tokenizer.encode("\n".join(TEXTS))
    context = ours.config.max_position_embeddings
    differences, same = [], 0
    lengths = sorted({min(length, context) for length in LENGTHS})
    for length in lengths:
        tokens = torch.tensor([[tokenizer.bos_id, *(ids * (length // len(ids) + 1))][:length]])
        expected, found = ours(tokens).float(), theirs(tokens).logits.float()
        differences.append((expected - found).abs().max())
        same += int((expected.argmax(-1) == found.argmax(-1)).sum())
    largest = float(torch.stack(differences).max())  # NaN if one is
    measured = (
        f"max |difference| {largest:.1e} at {sum(lengths):,} positions of {len(lengths)} texts (1 to {lengths[-1]} "
        f"tokens), {100 * same / sum(lengths):.2f} % with the same most probable token"
    )
    if not largest <= TOLERANCE:
        raise StageError(f"{measured}; more than {TOLERANCE:g} is not rounding")
    return f"{measured}; tolerance {TOLERANCE:g}"


def check_generations(ours: Transformer, theirs: Any, tokenizer: Tokenizer) -> str:
    """Compare token by token. They may differ after two tokens whose probabilities are equal within rounding."""
    n = min(NEW_TOKENS, ours.config.max_position_embeddings // 2)
    prompts = [[tokenizer.bos_id], [tokenizer.bos_id, *tokenizer.encode("The")]]
    with contextlib.suppress(ValueError):  # a template that refuses it has a check of its own
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
    after = f"after {tokenizer.decode([*prompt, *ours[:at]])!r} transformers writes"
    if at == min(len(ours), len(theirs)):
        longer = "goes on" if len(theirs) > len(ours) else "ends"
        raise StageError(f"{after} nothing else, but {longer} where crawl2chat does not")
    with torch.inference_mode():
        logits_v = model(torch.tensor([[*prompt, *ours[:at]]]))[0, -1]
    if abs(float(logits_v[ours[at]] - logits_v[theirs[at]])) > 2 * TOLERANCE:
        raise StageError(f"{after} {tokenizer.decode(theirs[at:])!r}, crawl2chat {tokenizer.decode(ours[at:])!r}")


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
    except Exception as error:  # of any kind, as the folder may contain anything
        raise StageError(f"transformers can't load the tokenizer: {error}") from error


def load_theirs(transformers: ModuleType, folder: Path) -> Any:
    try:
        model, problems = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True, local_files_only=True, trust_remote_code=False,
            use_safetensors=True,
        )  # fmt: skip
    except Exception as error:  # as above
        raise StageError(f"transformers can't load the model: {error}") from error
    wrong = {what: sorted(map(str, names)) for what, names in problems.items() if names}
    if wrong:
        raise StageError(f"transformers loads it with {wrong}")
    return model.eval()


def load_transformers() -> ModuleType:
    try:
        import transformers
    except ImportError as error:
        raise StageError("verify-release compares with the package transformers: pip install transformers") from error
    logging: Any = transformers.utils.logging
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return transformers


def _check(name: str, check: Callable[..., str], *arguments: Any) -> Check:
    try:
        return Check(name, True, check(*arguments))
    except StageError as error:
        return Check(name, False, str(error))
