"""The server under load: many streams at a time against one, and the same beside clients that mean no good.

    python bench/serve.py [--model RUN] [--clients 64] [--seconds 60]

The server is the command `crawl2chat serve` in a process of its own, of a random model of the laptop recipe's shape by
default. Clients stream completions of 50 to 150 tokens from it, one after the other on each of their connections: first
one client, then `--clients` of them and, in turns with that, as many beside hostile ones: some vanish in the middle of
a stream or before an answer, send garbage, send bodies of 10 MB, or send a byte a second. Clients of either kind are
one process each. All goes over loopback. Times are what the clients saw, so on few cores the clients' own work is in
them; the columns on the right say how many cores each side kept busy.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from crawl2chat.model import Transformer, save_model
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.tokenizer.stage import train_bpe
from crawl2chat.train.pretrain import model_config
from crawl2chat.train.settings import PretrainSettings

VOCAB, CONTEXT = 4096, 512
TOKENS = (50, 150)  # of an answer, so that not all begin and end together
ROUNDS = 3
SLOW_CLIENTS = 16
WAIT = 30.0  # seconds for anything to come before a client calls it an error


@dataclass
class Seen:
    """What the clients of one process saw."""

    answers: int = 0
    tokens: int = 0
    errors: list[str] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    between: list[float] = field(default_factory=list)
    seconds: float = 0.0
    cpu: float = 0.0
    server_cpu: float = 0.0

    def add(self, other: "Seen", server_cpu: float) -> None:
        for name in ("answers", "tokens", "errors", "first", "between", "seconds", "cpu"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.server_cpu += server_cpu


@dataclass
class Harm:
    """What hostile clients did, how often."""

    counts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    cpu: float = 0.0

    def add(self, other: "Harm") -> float:
        """Returns what the other's clients cost."""
        self.counts += other.counts
        return other.cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, metavar="RUN", help="a run or a model's folder (a random model)")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60, help="with many clients, and again beside hostile ones")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        server = start_server(options.model or random_model(Path(name) / "random"), options.clients)
        try:
            measure(server, options.clients, options.seconds)
        finally:
            server.terminate()
            server.wait(30)


def measure(server: "ServerProcess", clients: int, seconds: float) -> None:
    print(f"{'':26} {'answers':>7} {'errors':>6} {'tokens/s':>8}  {'first token, ms':>16}  {'between, ms':>13}  "
          f"{'cores busy':>14}\n{'':26} {'':7} {'':6} {'':8}  {'p50':>7} {'p99':>8}  {'p50':>6} {'p99':>6}  "
          f"{'server':>6} {'client':>7}")  # fmt: skip
    one, many, beside, harm = Seen(), Seen(), Seen(), Harm()
    round_of(server, 1, seconds / 4, one)
    print_row("1 client", one)
    for _ in range(ROUNDS):  # in turns, as a shared machine is not the same a minute later
        round_of(server, clients, seconds / ROUNDS, many)
        round_of(server, clients, seconds / ROUNDS, beside, harm)
    print_row(f"{clients} clients", many)
    print_row("as many beside hostile", beside)
    print("the hostile: " + ", ".join(f"{n} {kind}" for kind, n in sorted(harm.counts.items())))
    rate = [seen.tokens / seen.seconds for seen in (one, many, beside)]
    print(f"\ntokens/s, {clients} clients over one: {rate[1] / rate[0]:.1f}")
    print(f"beside hostile clients over without: tokens/s {rate[2] / rate[1]:.2f}, "
          + ", ".join(f"{what} p{q} {quantile(of(beside), q) / quantile(of(many), q):.2f}"
                      for what, of in (("first token", lambda s: s.first), ("between", lambda s: s.between))
                      for q in (50, 99)))  # fmt: skip
    for error in sorted({*one.errors, *many.errors, *beside.errors})[:5]:
        print(f"error: {error}")
    time.sleep(1)
    print("left behind: " + ", ".join(f"{name} {server.metric(name):.0f}" for name in ("running", "waiting")))


def round_of(server: "ServerProcess", clients: int, seconds: float, into: Seen, harm: Harm | None = None) -> None:
    """Load for so long, with hostile clients if what they do is to be counted."""
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        busy = server.cpu_seconds()
        hostile = (
            pool.apply_async(run_clients, ("hostile", server.port, clients, seconds)) if harm is not None else None
        )
        seen: Seen = pool.apply(run_clients, ("good", server.port, clients, seconds))
        into.add(seen, server.cpu_seconds() - busy)
        if harm is not None and hostile is not None:
            into.cpu += harm.add(hostile.get())


def print_row(what: str, seen: Seen) -> None:
    print(f"{what:26} {seen.answers:7,} {len(seen.errors):6} {seen.tokens / seen.seconds:8,.0f}  "
          f"{1000 * quantile(seen.first, 50):7.1f} {1000 * quantile(seen.first, 99):8.1f}  "
          f"{1000 * quantile(seen.between, 50):6.1f} {1000 * quantile(seen.between, 99):6.1f}  "
          f"{seen.server_cpu / seen.seconds:6.2f} {seen.cpu / seen.seconds:7.2f}", flush=True)  # fmt: skip


def quantile(values: Sequence[float], percent: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)] if values else float("nan")


class ServerProcess(subprocess.Popen[str]):
    """`crawl2chat serve`, and what can be read of it."""

    port: int

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def metric(self, name: str) -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=WAIT) as response:
            text = response.read().decode()
        return float(re.search(rf"^crawl2chat_{name} (\S+)$", text, re.MULTILINE)[1])  # type: ignore[index]


def start_server(model: Path, clients: int) -> ServerProcess:
    command = [sys.executable, "-m", "crawl2chat", "serve", str(model), "--port", "0", "--max-batch", str(clients + 8)]
    server = ServerProcess(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    line = server.stdout.readline() if server.stdout else ""
    found = re.search(r":(\d+)/v1", line)
    if not found:
        raise SystemExit(f"the server did not start: {' '.join(command)}")
    server.port = int(found[1])
    return server


def random_model(folder: Path) -> Path:
    """Of the laptop recipe's shape, with a tokenizer of words that nobody ever wrote."""
    draw = random.Random(0)
    words = ["".join(draw.choices("aeiourstlnmdpkg", k=draw.randint(2, 9))) for _ in range(20_000)]
    tokenizer: Tokenizer = train_bpe([" ".join(draw.choices(words, k=400)) for _ in range(400)], vocab_size=VOCAB)
    torch.manual_seed(0)
    model = Transformer(model_config(PretrainSettings(seq_len=CONTEXT), tokenizer.vocab_size))
    save_model(model, folder, stop_ids=sorted(tokenizer.stop_ids), pad_id=tokenizer.end_of_text)
    tokenizer.save(folder)
    return folder


# in the clients' processes


def run_clients(kind: str, port: int, clients: int, seconds: float) -> Any:
    began, before = time.perf_counter(), time.process_time()
    seen = asyncio.run((good_clients if kind == "good" else hostile_clients)(port, clients, seconds))
    seen.cpu, seen.seconds = time.process_time() - before, time.perf_counter() - began
    return seen


async def good_clients(port: int, clients: int, seconds: float) -> Seen:
    seen = Seen()
    end = time.perf_counter() + seconds
    await asyncio.gather(*(one_client(port, i, end, seen) for i in range(clients)))
    return seen


async def one_client(port: int, number: int, end: float, seen: Seen) -> None:
    draw = random.Random(number)
    reader = writer = None
    while time.perf_counter() < end:
        try:
            if writer is None or reader is None:
                reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
            writer.write(request(asked(draw, draw.randint(*TOKENS))))
            await asyncio.wait_for(read_answer(reader, seen), WAIT)
            seen.answers += 1
        except (OSError, ValueError, asyncio.IncompleteReadError, TimeoutError) as error:
            seen.errors.append(f"{type(error).__name__}: {error}")
            if writer:
                writer.close()
            reader = writer = None
            await asyncio.sleep(0.1)
    if writer:
        writer.close()


async def read_answer(reader: asyncio.StreamReader, seen: Seen) -> None:
    """Read a stream to its end, taking the time of each event."""
    last = time.perf_counter()
    began = False
    head = await reader.readuntil(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n")[0]:
        raise ValueError(head.split(b"\r\n")[0].decode())
    while size := int(await reader.readline(), 16):
        chunk = await reader.readexactly(size + 2)
        now = time.perf_counter()
        for event in chunk.strip().split(b"\n\n"):
            if b'"usage":{' in event:
                seen.tokens += json.loads(event.removeprefix(b"data: "))["usage"]["completion_tokens"]
            elif b'"choices":[{' in event:
                (seen.between if began else seen.first).append(now - last)
                last, began = now, True
            elif b"error" in event:
                raise ValueError(event.decode()[:200])
    await reader.readline()


def asked(draw: random.Random, max_tokens: int) -> dict[str, Any]:
    return {
        "prompt": [draw.randrange(256, 1000) for _ in range(draw.randint(10, 60))], "max_tokens": max_tokens,
        "seed": draw.randrange(1 << 30), "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip


def request(content: dict[str, Any] | bytes, length: int | None = None) -> bytes:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length or len(body)}\r\n\r\n"
    return head.encode() + body


async def hostile_clients(port: int, clients: int, seconds: float) -> Harm:
    harm = Harm()
    end = time.perf_counter() + seconds

    async def again(kind: str, act: Callable[[int], Awaitable[None]], pause: float) -> None:
        while time.perf_counter() < end:
            harm.counts[kind] += 1
            try:
                async with asyncio.timeout(max(0.1, end - time.perf_counter())):
                    await act(port)
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                pass
            await asyncio.sleep(pause)

    slow = [again("a byte a second", byte_a_second, 0) for _ in range(SLOW_CLIENTS)]
    await asyncio.gather(
        again("vanished in a stream", vanish_in_stream, 0.2), again("vanished before an answer", vanish_before, 0.2),
        again("garbage", garbage, 0.1), again("10 MB", ten_megabytes, 1.0), *slow,
    )  # fmt: skip
    return harm


async def vanish_in_stream(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request(asked(random.Random(), 400)))
    await reader.readuntil(b"data: ")
    writer.transport.abort()


async def vanish_before(port: int) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request(asked(random.Random(), 400) | {"stream": False, "stream_options": None}))
    await asyncio.sleep(0.05)
    writer.transport.abort()


async def garbage(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        random.choice(
            [random.randbytes(2000) + b"\r\n\r\n", request(b"[" * 50_000), request(b"{]"), b"GET / FTP\r\n\r\n"]
        )
    )
    await reader.read(1000)
    writer.close()


async def ten_megabytes(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request(b" " * 10_000_000))
    await reader.read(1000)
    writer.close()


async def byte_a_second(port: int) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    for byte in request(b"", length=1000) if random.random() < 0.5 else b"POST /v1/completions HTTP/1.1\r\n" * 9:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(1)


if __name__ == "__main__":
    main()
