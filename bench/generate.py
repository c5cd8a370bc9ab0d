"""Generation against transformers' `generate`, and llama.cpp where it is installed: the same weights, one table.

    python bench/generate.py [--shapes laptop small large] [--batches 1 16 128] [--tokens 128] [--rounds 3] [--compiled]
    python bench/generate.py --model runs/laptop/pretrain

Without --model the weights are random, but such that what they write varies. Prompts are random ids, new ones in every
round, so that no side finds a prompt's keys and values in a cache. Nothing ends a text: both sides write --tokens.
Ours also turns ids into text and gives every id's log-probability; the others give ids alone.

The peer is Qwen3ForCausalLM in inference mode with sdpa attention. Its dynamic and its static cache are tried in each
row, with --compiled also its compiled decoding, and the fastest way is taken. For many samples of one prompt the ways
are `num_return_sequences` (dynamic) and the prompt's cache repeated by hand for every sample (copied).
llama.cpp reads the exported float32 GGUF and keeps float32 keys and values. It gets one sequence at a time.

Each side is a process of its own with the same number of threads, and has one turn in every round. Figures are medians;
tokens/s are those of a whole call, which reads its prompts, too. Ratios are ours / theirs: more is better of tokens/s,
less of ms and MB. "Same" are the peer's greedy tokens that ours has, too, up to the first other one of each sequence:
sums of floats differ with their order, and a near tie falls the other way. Memory is a process's resident peak in one
greedy generation, and how far this is above what it held with the model loaded and used once (Linux); what this file
imports, 18 MB beside torch, is in both sides' peaks.

llama.cpp needs `pip install llama-cpp-python`, which no extra asks for: it compiles for minutes.
"""

import argparse
import importlib.util
import itertools
import multiprocessing
import random
import statistics
import string
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import torch

from crawl2chat.generate import Engine, Sampling
from crawl2chat.model import ModelConfig, Transformer, load_model, save_model
from crawl2chat.model.huggingface import on_meta, read_config
from crawl2chat.release.export import export_folder
from crawl2chat.release.gguf_file import write_gguf
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.tokenizer.tokenizer import CONTROL_TOKENS

TEMPERATURE, TOP_K, TOP_P = 0.8, 50, 0.95
LONG_PROMPT = 128  # tokens, of the time to first token and of the prompt that samples share
SAMPLES, SAMPLE_TOKENS = 64, 16  # of one prompt
CONTEXT = 256  # at least
LONG = 10.0  # seconds of a warm-up that is trial enough
LARGE, LARGE_BATCH = 100e6, 16  # parameters from which a model also runs in bf16, and in batches of at most so many
SHAPES = {  # vocabulary, width, MLP, layers, heads, head width; embeddings tied
    "laptop": (4_096, 128, 384, 4, 2, 64),  # recipes/laptop.toml's
    "small": (1_696, 128, 384, 4, 2, 64),
    "large": (24_576, 768, 2_304, 12, 12, 64),
}
TYPES = {torch.float32: "fp32", torch.bfloat16: "bf16"}
COLUMNS = {"ours": 8, "peer": 9, "llama.cpp": 10}  # of the table, with their widths


@dataclass(frozen=True)
class Work:
    """What one call generates: `samples` continuations of each prompt, each of `tokens` tokens."""

    prompts: list[list[int]]
    tokens: int
    sampled: bool = False
    seed: int = 0
    samples: int = 1

    @property
    def sequences(self) -> int:
        return len(self.prompts) * self.samples


@dataclass(frozen=True)
class Answer:
    ids: list[list[int]]
    seconds: float


class Side(Protocol):
    """A model and how it generates: in one of several ways, told apart by name."""

    def generate(self, work: Work, way: str) -> list[list[int]]: ...


class Ours:
    def __init__(self, folder: Path, dtype: torch.dtype, context: int) -> None:
        self.tokenizer = Tokenizer.load(folder)
        self.tokenizer.stop_ids = frozenset()  # nothing ends a text
        self.model, self.context = load_model(folder, dtype=dtype), context
        self.engine = Engine(self.model, self.tokenizer, max_batch=1, context=context)

    def generate(self, work: Work, way: str) -> list[list[int]]:
        controls = {"temperature": TEMPERATURE, "top_k": TOP_K, "top_p": TOP_P} if work.sampled else {"temperature": 0}
        sampling = Sampling(max_tokens=work.tokens, seed=work.seed, **controls)
        prompts = [prompt for prompt in work.prompts for _ in range(work.samples)]
        if self.engine.max_batch != len(prompts):  # as many rows as are needed, which is what chat and generate take
            self.engine = Engine(self.model, self.tokenizer, max_batch=len(prompts), context=self.context)
        return [completion.ids for completion in self.engine.generate(prompts, sampling)]


class Peer:
    def __init__(self, folder: Path, dtype: torch.dtype, context: int) -> None:
        from transformers import GenerationConfig, Qwen3ForCausalLM
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        self.model = Qwen3ForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa").eval()
        self.model.generation_config = GenerationConfig()  # the exported one's stop ids would end texts

    @torch.inference_mode()
    def generate(self, work: Work, way: str) -> list[list[int]]:
        from transformers import DynamicCache, GenerationConfig

        torch.manual_seed(work.seed)
        controls = {"do_sample": True, "temperature": TEMPERATURE, "top_k": TOP_K, "top_p": TOP_P}
        config = GenerationConfig(max_new_tokens=work.tokens, pad_token_id=0, **controls if work.sampled else {})
        ids_bt = torch.tensor(work.prompts)
        held: dict[str, Any] = {}
        if way == "copied":
            held["past_key_values"] = DynamicCache(config=self.model.config)
            self.model(ids_bt[:, :-1], **held, logits_to_keep=1)
            held["past_key_values"].batch_repeat_interleave(work.samples)
            ids_bt = ids_bt.repeat_interleave(work.samples, dim=0)
        else:
            config.num_return_sequences = work.samples
        if way in ("static", "compiled"):
            config.cache_implementation = "static"
        if way == "compiled":
            config.compile_config = compilation()
        mask_bt = torch.ones_like(ids_bt)
        output_bt = self.model.generate(ids_bt, attention_mask=mask_bt, generation_config=config, **held)
        return output_bt[:, ids_bt.shape[1] :].tolist()


def compilation() -> Any:
    """transformers' own compilation of decoding steps, which it keeps to accelerators unless told so."""
    from transformers import CompileConfig

    config = CompileConfig(mode="default")
    config._compile_all_devices = True
    return config


class LlamaCpp:
    def __init__(self, file: Path, dtype: torch.dtype, context: int) -> None:
        import llama_cpp

        threads, kind = torch.get_num_threads(), llama_cpp.GGML_TYPE_F32
        self.model = llama_cpp.Llama(
            str(file), n_ctx=context, n_threads=threads, n_threads_batch=threads, type_k=kind, type_v=kind,
            verbose=False,
        )  # fmt: skip

    def generate(self, work: Work, way: str) -> list[list[int]]:
        greedy = {"temp": 0.0, "top_k": 1}
        sampled = {"temp": TEMPERATURE, "top_k": TOP_K, "top_p": TOP_P, "min_p": 0.0}
        controls = {"repeat_penalty": 1.0, **(sampled if work.sampled else greedy)}
        self.model.set_seed(work.seed)
        return [list(itertools.islice(self.model.generate(p, **controls), work.tokens)) for p in work.prompts]


SIDES: dict[str, Callable[[Path, torch.dtype, int], Side]] = {"ours": Ours, "peer": Peer, "llama.cpp": LlamaCpp}
side: Side  # of a process that `load` has begun


def load(name: str, place: Path, dtype: torch.dtype, context: int, threads: int) -> None:
    global side
    torch.set_num_threads(threads)
    side = SIDES[name](place, dtype, context)


def timed(work: Work, way: str) -> Answer:
    start = time.perf_counter()
    ids = side.generate(work, way)
    seconds = time.perf_counter() - start
    lengths = [len(row) for row in ids]
    if lengths != [work.tokens] * work.sequences:
        raise RuntimeError(f"{way}: expected {work.sequences} times {work.tokens} tokens, got {lengths}")
    return Answer(ids, seconds)


def peak_memory(work: Work, way: str) -> tuple[float, float] | None:
    """Resident MB at most in a generation, and what of it is above the loaded model; None where Linux can't say."""
    peak = Path("/proc/self/clear_refs")
    if not peak.exists():
        return None
    side.generate(replace(work, prompts=work.prompts[:1], tokens=2), way)
    peak.write_text("5")  # sets it to what is resident now
    loaded = resident("VmRSS")
    side.generate(work, way)
    return resident("VmHWM"), resident("VmHWM") - loaded


def resident(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(name + ":"))


@dataclass(frozen=True)
class Case:
    """A model on disk, the type that it is run in, and how much is asked of it."""

    name: str
    folder: Path
    gguf: Path | None
    dtype: torch.dtype
    batches: list[int]
    context: int
    options: argparse.Namespace

    @contextmanager
    def process(self, name: str) -> Iterator[ProcessPoolExecutor]:
        """One that holds this model for the named side."""
        arguments = (name, self.gguf if name == "llama.cpp" else self.folder, self.dtype, self.context)
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, spawn, load, (*arguments, self.options.threads)) as pool:
            yield pool

    def row(self, what: str, unit: str, values: Mapping[str, float], notes: str = "") -> None:
        """Print each side's value and ratio; small values with a decimal."""
        text = f"{self.name:6} {TYPES[self.dtype]} {what:18} {unit:5}"
        for name, width in COLUMNS.items():
            value = values.get(name)
            shown = "" if value is None else f"{value:,.{int(value < 100)}f}"
            ratio = "" if value is None else f"{values['ours'] / value:.2f}"
            text += f"{shown:>{width}}" + ("" if name == "ours" else f"{ratio:>6}")
        print(f"{text}  {notes}".rstrip(), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES), help="of random models")
    parser.add_argument("--model", type=Path, help="a stage's folder or an exported one, instead")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 16, 128], help="a large model: at most 16")
    parser.add_argument("--prompt", type=int, default=32, help="tokens")
    parser.add_argument("--tokens", type=int, default=128, help="new ones of each sequence")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--compiled", action="store_true", help="also try the peer's compiled decoding")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), options)


def compare(folder: Path, options: argparse.Namespace) -> None:
    import transformers

    context = max(CONTEXT, options.prompt + options.tokens, LONG_PROMPT + SAMPLE_TOKENS)
    llama = importlib.util.find_spec("llama_cpp") is not None
    print(f"transformers {transformers.__version__}, {'' if llama else 'no '}llama-cpp-python installed; "
          f"{options.threads} threads, {options.rounds} rounds;\nprompts of {options.prompt}, {options.tokens} new "
          f"tokens; sampled: temperature {TEMPERATURE}, top-k {TOP_K}, top-p {TOP_P}")  # fmt: skip
    cases = []
    for name in ["model"] if options.model else options.shapes:
        model = options.model or random_model(SHAPES[name], context, folder / "random" / name)
        export_folder(model, folder / name, name=name, dtype="float32")
        config = read_config(folder / name)
        if config.max_position_embeddings < context:
            raise SystemExit(f"{model}: its context has {config.max_position_embeddings} tokens; this takes {context}")
        size = on_meta(config).n_parameters()
        print(f"{name}: {size:,} parameters, {config.hidden_size} wide, {config.num_hidden_layers} layers, "
              f"{config.num_attention_heads} heads of {config.head_dim}, MLP {config.intermediate_size}, "
              f"vocabulary {config.vocab_size:,}", flush=True)  # fmt: skip
        file = folder / f"{name}.gguf" if llama else None
        if file:
            write_gguf(folder / name, file, "float32", name=name)
        batches = sorted({min(batch, LARGE_BATCH) if size >= LARGE else batch for batch in options.batches})
        case = Case(name, folder / name, file, torch.float32, batches, context, options)
        cases += [case, replace(case, gguf=None, dtype=torch.bfloat16)] if size >= LARGE else [case]
    sides = "".join(f"{name:>{width}}" + ("" if name == "ours" else " ratio") for name, width in COLUMNS.items())
    print(f"\n{'model':6} {'type':29}{sides}  {'way':8} {'same':>13}")
    for case in cases:
        compare_speed(case)
        compare_memory(case)


def random_model(shape: tuple[int, ...], context: int, folder: Path) -> Path:
    """Save a model that nobody trained; its logits have a deviation of about 3, near that of trained ones."""
    vocab, width, mlp, layers, heads, head_dim = shape
    model = Transformer(ModelConfig(vocab, width, mlp, layers, heads, heads, head_dim, context))
    model.init_weights(0)
    generator = torch.Generator().manual_seed(1)
    for name, weight in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight", "embed_tokens.weight")):
            deviation = (3 if "embed" in name else 1) / weight.shape[1] ** 0.5
            weight.data = torch.randn(weight.shape, generator=generator) * deviation
    tokenizer = letters(vocab)
    save_model(model, folder, stop_ids=[tokenizer.end_of_turn, tokenizer.end_of_text], pad_id=tokenizer.end_of_text)
    tokenizer.save(folder)
    return folder


def letters(size: int) -> Tokenizer:
    """A vocabulary of all bytes, then strings of two, three, four letters."""
    strings = itertools.chain(*(itertools.product(string.ascii_lowercase, repeat=n) for n in (2, 3, 4)))
    tokens = itertools.chain((bytes([byte]) for byte in range(256)), ("".join(s).encode() for s in strings))
    ranks = {token: rank for rank, token in enumerate(itertools.islice(tokens, size - len(CONTROL_TOKENS)))}
    return Tokenizer(ranks, {name: len(ranks) + i for i, name in enumerate(CONTROL_TOKENS)})


def random_prompts(tokenizer: Tokenizer, count: int, length: int, seed: str) -> list[list[int]]:
    draw = random.Random(seed)
    return [draw.choices(sorted(tokenizer.ranks.values()), k=length) for _ in range(count)]


Sides = Mapping[str, Sequence[str]]  # those that take part, each with its ways


def compare_speed(case: Case) -> None:
    options, tokenizer = case.options, Tokenizer.load(case.folder)
    two = {"ours": ["engine"], "peer": ["dynamic", "static"] + ["compiled"] * options.compiled}
    three = two | ({"llama.cpp": ["only"]} if case.gguf else {})
    with ExitStack() as stack:
        pools = {name: stack.enter_context(case.process(name)) for name in three}

        def row(
            what: str, unit: Literal["tok/s", "ms"], sides: Sides,
            count: int, length: int, tokens: int, sampled: bool = False, samples: int = 1,
        ) -> None:  # fmt: skip
            def work(turn: int) -> Work:
                prompts = random_prompts(tokenizer, count, length, f"{what} {turn}")
                return Work(prompts, tokens, sampled, turn, samples)

            ways, answers = measure(pools, sides, work, options.rounds)
            seconds = {name: statistics.median(answer.seconds for answer in all) for name, all in answers.items()}
            total = count * samples * tokens
            values = {name: 1000 * t if unit == "ms" else total / t for name, t in seconds.items()}
            same = sum(agreed(a.ids, b.ids) for a, b in zip(answers["ours"], answers["peer"], strict=True))
            share = "" if sampled else f"{same:,}/{options.rounds * total:,}"
            case.row(what, unit, values, f"{ways['peer']:8} {share:>13}")

        for batch in case.batches:
            sides = three if batch == 1 else two
            row(f"greedy, batch {batch}", "tok/s", sides, batch, options.prompt, options.tokens)
            row(f"sampled, batch {batch}", "tok/s", sides, batch, options.prompt, options.tokens, sampled=True)
        row("first token", "ms", three | {"peer": ["dynamic", "static"]}, 1, LONG_PROMPT, 1)
        sides = two | {"peer": ["dynamic", "copied"]}
        row(f"{SAMPLES} of one prompt", "tok/s", sides, 1, LONG_PROMPT, SAMPLE_TOKENS, sampled=True, samples=SAMPLES)


def measure(
    pools: Mapping[str, ProcessPoolExecutor], sides: Sides, work: Callable[[int], Work], rounds: int
) -> tuple[dict[str, str], dict[str, list[Answer]]]:
    """Each side's fastest way, and its answers in all rounds; `work` gives that of a turn, with prompts of its own."""

    def answer(name: str, way: str, turn: int) -> Answer:
        return pools[name].submit(timed, work(turn), way).result()

    fastest: dict[str, str] = {}
    for name, ways in sides.items():
        first = {way: answer(name, way, rounds).seconds for way in ways}
        trials = {way: t if t > LONG else answer(name, way, rounds + 1).seconds for way, t in first.items()}
        fastest[name] = min(trials, key=trials.__getitem__)
    answers: dict[str, list[Answer]] = {name: [] for name in sides}
    for turn in range(rounds):
        for name, way in fastest.items():
            answers[name].append(answer(name, way, turn))
    return fastest, answers


def agreed(ours: Sequence[Sequence[int]], theirs: Sequence[Sequence[int]]) -> int:
    """Tokens that both have, up to the first other one of each sequence."""
    pairs = (zip(*two, strict=True) for two in zip(ours, theirs, strict=True))
    return sum(len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], row))) for row in pairs)


def compare_memory(case: Case) -> None:
    batch = max(case.batches)
    prompts = random_prompts(Tokenizer.load(case.folder), batch, case.options.prompt, "memory")
    peaks, above = {}, {}
    for name, way in (("ours", "engine"), ("peer", "dynamic")):
        with case.process(name) as pool:
            measured = pool.submit(peak_memory, Work(prompts, case.options.tokens), way).result()
        if measured is None:
            return
        peaks[name], above[name] = measured
    case.row(f"peak, batch {batch}", "MB", peaks)
    case.row("  above the model", "MB", above)


if __name__ == "__main__":
    main()
