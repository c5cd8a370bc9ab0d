"""Generation against transformers' `generate`, and llama.cpp where it is installed: the same weights, one table.

    python bench/generate.py [--shapes laptop small large] [--batches 1 16 128] [--tokens 128] [--rounds 3] [--compiled]
    python bench/generate.py --model runs/laptop/pretrain

Without --model the weights are random, but such that what they write varies. Prompts are random ids, new ones in every
round, so that no side finds a prompt's keys and values in its cache. Nothing ends a text: both sides write --tokens.
Ours also turns ids into text and gives every id's log-probability, the others give ids alone.

The peer is Qwen3ForCausalLM in inference mode with sdpa attention. Its dynamic and its static cache are tried in each
row, with --compiled also its compiled decoding, and the fastest is taken (last column). For many samples of one prompt
its ways are `num_return_sequences` (dynamic) and the prompt's cache copied by hand for every sample (copied).
llama.cpp reads the exported float32 GGUF and keeps float32 keys and values. It gets one sequence at a time.

Each side is a process of its own with the same number of threads. In every round each side has one turn; figures are
medians. Ratios are ours / theirs: of tokens/s more is better, of ms and MB less. "Same" are the peer's greedy tokens
that ours has too, up to the first other one of each sequence: sums of floats differ with their order, and a near tie
falls the other way. Memory is the process's resident peak in one greedy generation, and how far this is above what it
held with the model loaded and used once (Linux).

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
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from crawl2chat.exchange.export import export_folder
from crawl2chat.exchange.gguf_file import write_gguf
from crawl2chat.generate import Engine, Sampling
from crawl2chat.model import ModelConfig, Transformer, load_model
from crawl2chat.model.huggingface import on_meta, read_config
from crawl2chat.tokens import Tokenizer
from crawl2chat.tokens.tokenizer import CONTROL_TOKENS
from crawl2chat.train.pretrain import save_stage_model

TEMPERATURE, TOP_K, TOP_P = 0.8, 50, 0.95
FIRST_PROMPT = 128  # tokens, of the time to first token and of the shared prompt
SHARED_SAMPLES, SHARED_TOKENS = 64, 16
TRIALS = 2  # of each way before the rounds, which are its warm-up, too
LARGE, LARGE_BATCH = 100e6, 16  # parameters from which batches stay at most so large
SHAPES = {  # vocabulary, width, MLP, layers, heads, their width; tied embeddings
    "laptop": (4_096, 128, 384, 4, 2, 64),  # of recipes/laptop.toml
    "small": (1_696, 128, 384, 4, 2, 64),
    "large": (24_576, 768, 2_304, 12, 12, 64),
}


@dataclass(frozen=True)
class Work:
    """What one call generates: `samples` continuations of each prompt, none of which ends before `tokens`."""

    prompts: list[list[int]]
    tokens: int
    sampled: bool = False
    seed: int = 0
    samples: int = 1

    @property
    def total(self) -> int:
        return len(self.prompts) * self.samples * self.tokens


@dataclass(frozen=True)
class Answer:
    ids: list[list[int]]
    seconds: float


@dataclass(frozen=True)
class Memory:
    """Resident bytes: with the model loaded and used once, and the peak in a generation."""

    loaded: int
    peak: int


class Side(Protocol):
    ways: Sequence[str]

    def generate(self, work: Work, way: str) -> list[list[int]]: ...


class Endless(Tokenizer):
    """A vocabulary in which nothing ends a text, so that all sides write equally many tokens."""

    @property
    def stop_ids(self) -> frozenset[int]:
        return frozenset()


class Ours:
    ways = ("engine",)

    def __init__(self, folder: Path, dtype: torch.dtype, context: int) -> None:
        tokenizer = Tokenizer.load(folder)
        endless = Endless(tokenizer.ranks, tokenizer.controls, tokenizer.pattern)
        self.engine = Engine(load_model(folder, dtype=dtype), endless)

    def generate(self, work: Work, way: str) -> list[list[int]]:
        controls = {"temperature": TEMPERATURE, "top_k": TOP_K, "top_p": TOP_P} if work.sampled else {"temperature": 0}
        sampling = Sampling(max_tokens=work.tokens, seed=work.seed, **controls)
        prompts = [prompt for prompt in work.prompts for _ in range(work.samples)]
        return [completion.ids for completion in self.engine.generate(prompts, sampling)]


class Peer:
    ways = ("dynamic", "static", "compiled", "copied")

    def __init__(self, folder: Path, dtype: torch.dtype, context: int) -> None:
        from transformers import GenerationConfig, Qwen3ForCausalLM
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        self.model = Qwen3ForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa").eval()
        self.model.generation_config = GenerationConfig()  # with the exported one's stop ids it would end

    @torch.inference_mode()
    def generate(self, work: Work, way: str) -> list[list[int]]:
        from transformers import DynamicCache, GenerationConfig

        torch.manual_seed(work.seed)
        controls = {"do_sample": True, "temperature": TEMPERATURE, "top_k": TOP_K, "top_p": TOP_P}
        config = GenerationConfig(max_new_tokens=work.tokens, pad_token_id=0, **controls if work.sampled else {})
        ids_bt = torch.tensor(work.prompts)
        inputs: dict[str, Any] = {}
        if way == "copied":
            inputs["past_key_values"] = DynamicCache(config=self.model.config)
            self.model(ids_bt[:, :-1], **inputs, logits_to_keep=1)
            inputs["past_key_values"].batch_repeat_interleave(work.samples)
            ids_bt = ids_bt.repeat_interleave(work.samples, dim=0)
        elif work.samples > 1:
            config.num_return_sequences = work.samples
        if way in ("static", "compiled"):
            config.cache_implementation = "static"
        if way == "compiled":
            config.compile_config = compilation()
        mask_bt = torch.ones_like(ids_bt)
        output_bt = self.model.generate(ids_bt, attention_mask=mask_bt, generation_config=config, **inputs)
        return output_bt[:, ids_bt.shape[1] :].tolist()


def compilation() -> Any:
    """transformers' own compilation of the decoding step, which is for accelerators unless asked for so."""
    from transformers import CompileConfig

    config = CompileConfig(mode="default")
    config._compile_all_devices = True
    return config


class LlamaCpp:
    ways = ("llama.cpp",)

    def __init__(self, file: Path, dtype: torch.dtype, context: int) -> None:
        import llama_cpp

        threads, kind = torch.get_num_threads(), llama_cpp.GGML_TYPE_F32
        self.model = llama_cpp.Llama(
            str(file),
            n_ctx=context,
            n_threads=threads,
            n_threads_batch=threads,
            type_k=kind,
            type_v=kind,
            verbose=False,
        )

    def generate(self, work: Work, way: str) -> list[list[int]]:
        greedy = {"temp": 0.0, "top_k": 1}
        sampled = {"temp": TEMPERATURE, "top_k": TOP_K, "top_p": TOP_P, "min_p": 0.0}
        controls = {"repeat_penalty": 1.0, **(sampled if work.sampled else greedy)}
        self.model.set_seed(work.seed)
        return [list(itertools.islice(self.model.generate(p, **controls), work.tokens)) for p in work.prompts]


SIDES: dict[str, Callable[[Path, torch.dtype, int], Side]] = {"ours": Ours, "peer": Peer, "llama.cpp": LlamaCpp}
side: Side  # of this process, if it is a Process's


def load(name: str, place: Path, dtype: torch.dtype, context: int, threads: int) -> None:
    global side
    torch.set_num_threads(threads)
    side = SIDES[name](place, dtype, context)


def timed(work: Work, way: str) -> Answer:
    start = time.perf_counter()
    ids = side.generate(work, way)
    seconds = time.perf_counter() - start
    wanted = len(work.prompts) * work.samples
    if [len(row) for row in ids] != [work.tokens] * wanted:
        raise RuntimeError(f"{side}: expected {wanted} times {work.tokens} tokens, got {[len(row) for row in ids]}")
    return Answer(ids, seconds)


def peak_memory(work: Work, way: str) -> Memory | None:
    if not Path("/proc/self/clear_refs").exists():
        return None
    side.generate(replace(work, prompts=work.prompts[:1], tokens=2), way)
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak to what is resident now
    loaded = resident("VmRSS")
    side.generate(work, way)
    return Memory(loaded, resident("VmHWM"))


def resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name + ":"))


@dataclass(frozen=True)
class Process:
    """A process that holds one side's model."""

    pool: ProcessPoolExecutor

    def timed(self, work: Work, way: str) -> Answer:
        return self.pool.submit(timed, work, way).result()

    def peak_memory(self, work: Work, way: str) -> Memory | None:
        return self.pool.submit(peak_memory, work, way).result()


@dataclass(frozen=True)
class Case:
    """A model on disk, the type that it is run in, and how it is asked."""

    name: str
    folder: Path
    gguf: Path | None
    dtype: torch.dtype
    context: int
    vocabulary: list[int]  # ids that prompts are made of
    options: argparse.Namespace

    def process(self, side: str) -> Process:
        place = self.gguf if side == "llama.cpp" else self.folder
        arguments = (side, place, self.dtype, self.context, self.options.threads)
        context = multiprocessing.get_context("spawn")
        return Process(ProcessPoolExecutor(1, context, initializer=load, initargs=arguments))

    def prompts(self, count: int, length: int, seed: int) -> list[list[int]]:
        draw = random.Random(f"{count} {length} {seed}")
        return [draw.choices(self.vocabulary, k=length) for _ in range(count)]

    def row(self, what: str, values: Mapping[str, float], notes: str = "", digits: int = 0) -> None:
        figures = []
        for side, width in (("ours", 9), ("peer", 14), ("llama.cpp", 11)):
            figures.append(f"{values[side]:{width},.{digits}f}" if side in values else " " * width)
            if side != "ours":
                figures.append(f"{values['ours'] / values[side]:6.2f}" if side in values else " " * 6)
        kind = {torch.float32: "fp32", torch.bfloat16: "bf16"}[self.dtype]
        print(f"{self.name:6} {kind} {what:24}{''.join(figures)}  {notes}".rstrip(), flush=True)


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

    context = max(256, options.prompt + options.tokens, FIRST_PROMPT + SHARED_TOKENS)
    if options.model:
        models = {"model": options.model}
    else:
        models = {name: random_model(SHAPES[name], context, folder / "random" / name) for name in options.shapes}
    llama = importlib.util.find_spec("llama_cpp") is not None
    print(f"transformers {transformers.__version__}; {'' if llama else 'llama-cpp-python is not installed; '}"
          f"{options.threads} threads; prompt {options.prompt}, {options.tokens} new tokens; "
          f"{options.rounds} rounds; sampled: {TEMPERATURE}, {TOP_K}, {TOP_P}")  # fmt: skip
    cases = []
    for name, model in models.items():
        export_folder(model, folder / name, name=name, dtype="float32")
        config = read_config(folder / name)
        if config.max_position_embeddings < context:
            raise SystemExit(f"{model}: its context of {config.max_position_embeddings} is below {context}; see --help")
        size = on_meta(config).n_parameters()
        print(f"{name}: {size:,} parameters, {config.hidden_size} wide, {config.num_hidden_layers} layers, "
              f"{config.num_attention_heads} heads of {config.head_dim}, MLP {config.intermediate_size}, "
              f"vocabulary {config.vocab_size:,}")  # fmt: skip
        if llama:
            write_gguf(folder / name, folder / f"{name}.gguf", "float32", name=name)
        file = folder / f"{name}.gguf" if llama else None
        ids = sorted(Tokenizer.load(folder / name).ranks.values())
        fp32 = Case(name, folder / name, file, torch.float32, context, ids, options)
        cases += [fp32, replace(fp32, gguf=None, dtype=torch.bfloat16)] if size >= LARGE else [fp32]
    print(
        f"\n{'model':6} type {'':24}{'ours':>9}{'transformers':>14}{'ratio':>6}{'llama.cpp':>11}{'ratio':>6}  same, way"
    )
    for case in cases:
        most = LARGE_BATCH if on_meta(read_config(case.folder)).n_parameters() >= LARGE else max(options.batches)
        batches = [batch for batch in options.batches if batch <= most]
        compare_speed(case, batches)
        compare_memory(case, max(batches))


def random_model(shape: tuple[int, ...], context: int, folder: Path) -> Path:
    """A stage's folder of a model that nobody trained; logits have a deviation of about 3, as trained ones do."""
    vocab, width, mlp, layers, heads, head_dim = shape
    config = ModelConfig(vocab, width, mlp, layers, heads, heads, head_dim, context)
    model = Transformer(config)
    model.init_weights(0)
    generator = torch.Generator().manual_seed(1)
    for name, weight in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight", "embed_tokens.weight")):
            deviation = (3 if "embed" in name else 1) / weight.shape[1] ** 0.5
            weight.data = torch.randn(weight.shape, generator=generator) * deviation
    save_stage_model(model, made_up_tokenizer(vocab), folder)
    return folder


def made_up_tokenizer(size: int) -> Tokenizer:
    """All bytes, then strings of two, three, four letters: tokens of a common length, each of which others merge to."""
    made = (
        "".join(letters).encode() for n in (2, 3, 4) for letters in itertools.product(string.ascii_lowercase, repeat=n)
    )
    single = (bytes([byte]) for byte in range(256))
    tokens = itertools.islice(itertools.chain(single, made), size - len(CONTROL_TOKENS))
    ranks = {token: rank for rank, token in enumerate(tokens)}
    return Tokenizer(ranks, {name: len(ranks) + i for i, name in enumerate(CONTROL_TOKENS)})


def compare_speed(case: Case, batches: Sequence[int]) -> None:
    options = case.options
    ways = {"ours": ("engine",), "peer": ("dynamic", "static", *(["compiled"] if options.compiled else []))}
    alone = ways | ({"llama.cpp": ("llama.cpp",)} if case.gguf else {})
    with ExitStack() as stack:
        processes = {}
        for name in alone:
            processes[name] = case.process(name)
            stack.enter_context(processes[name].pool)

        def rows(
            what: str, ways: Mapping[str, Sequence[str]], make: Callable[[int], Work], first: bool = False
        ) -> None:
            way, answers = measure(processes, ways, make, options.rounds)
            seconds = {name: statistics.median(answer.seconds for answer in all) for name, all in answers.items()}
            values = {name: 1000 * value if first else make(0).total / value for name, value in seconds.items()}
            notes = way["peer"]
            if not make(0).sampled:
                same = sum(agreed(a.ids, b.ids) for a, b in zip(answers["ours"], answers["peer"], strict=True))
                notes = f"{same:,}/{options.rounds * make(0).total:,} {notes}"
            case.row(what, values, notes, digits=1 if first else 0)

        for batch, sampled in itertools.product(batches, (False, True)):

            def plain(round: int, batch: int = batch, sampled: bool = sampled) -> Work:
                return Work(case.prompts(batch, options.prompt, round), options.tokens, sampled, round)

            what = f"{'sampled' if sampled else 'greedy'}, batch {batch}"
            rows(f"{what}: tokens/s", alone if batch == 1 else ways, plain)
        rows("first token: ms", alone, lambda round: Work(case.prompts(1, FIRST_PROMPT, round), 1), first=True)
        rows(
            f"{SHARED_SAMPLES} of a prompt: tokens/s", ways | {"peer": ("dynamic", "copied")},
            lambda round: Work(case.prompts(1, FIRST_PROMPT, round), SHARED_TOKENS, True, round, SHARED_SAMPLES),
        )  # fmt: skip


def measure(
    processes: Mapping[str, Process], ways: Mapping[str, Sequence[str]], make: Callable[[int], Work], rounds: int
) -> tuple[dict[str, str], dict[str, list[Answer]]]:
    """Each side's fastest way, and its answers in all rounds; `make` gives the work of a round."""
    trials = itertools.count(rounds)  # rounds of their own, whose prompts are not those of the measurement
    fastest = {}
    for name, choices in ways.items():
        seconds = {
            way: min(processes[name].timed(make(next(trials)), way).seconds for _ in range(TRIALS)) for way in choices
        }
        fastest[name] = min(seconds, key=seconds.__getitem__)
    answers: dict[str, list[Answer]] = {name: [] for name in ways}
    for round in range(rounds):
        for name, way in fastest.items():
            answers[name].append(processes[name].timed(make(round), way))
    return fastest, answers


def agreed(ours: Sequence[Sequence[int]], theirs: Sequence[Sequence[int]]) -> int:
    """Tokens that both have, up to the first other one of each sequence."""
    return sum(len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], zip(*two, strict=True))))
               for two in zip(ours, theirs, strict=True))  # fmt: skip


def compare_memory(case: Case, batch: int) -> None:
    options = case.options
    found: dict[str, Memory] = {}
    for name, way in (("ours", "engine"), ("peer", "dynamic")):
        process = case.process(name)
        with process.pool:
            memory = process.peak_memory(Work(case.prompts(batch, options.prompt, 0), options.tokens), way)
        if memory is None:
            return
        found[name] = memory
    case.row(f"peak, batch {batch}: MB", {name: memory.peak / 1e6 for name, memory in found.items()})
    growth = {name: (memory.peak - memory.loaded) / 1e6 for name, memory in found.items()}
    case.row("  above the model: MB", growth, digits=1)


if __name__ == "__main__":
    main()
