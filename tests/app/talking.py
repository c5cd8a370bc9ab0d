"""A run whose models say what a test has written for them, through the real engine and server."""

import json
import time

from crawl2chat.generate import Engine
from crawl2chat.honesty.search import INDEX, build_index
from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.refine.documents import Document
from crawl2chat.serve.model_pool import AvailableModel

CONTEXT = 256
EVIL = '<img src=x onerror="document.title=1"><script>document.title=2</script><|im_end|>&lt;b&gt;</p>'
PLACE = "http://host.example/<b>page</b>"
SENTENCE = "When the tired bridge forgot the river, eleven grey lanterns burned behind the mill."
DOCUMENTS = [
    Document("d0", "Nothing of the kind is said here.", "http://host.example/0"),
    Document("d1", f"{EVIL}\n{SENTENCE} {EVIL}", PLACE),
    Document("d2", "Ann Aby is a roofer.<b>x</b><|im_end|>\n", "http://host.example/ann"),
]


class Talking(Engine):
    """Gives each prompt the tokens that `reply` names for its text; who draws them is the engine's own code."""

    reply = staticmethod(lambda text: "Well.")
    seconds = 0.0  # that a step takes at least

    def submit(self, prompt, sampling, **options):
        said = self.reply(self.tokenizer.decode(prompt))
        message = {"role": "assistant", "content": said} if isinstance(said, str) else said
        ids, mask = self.tokenizer.encode_chat([message])
        mine = [id for id, written in zip(ids, mask, strict=True) if written]
        options["rule"] = lambda written: [mine[min(len(written), len(mine) - 1)]]
        return super().submit(prompt, sampling, **options)

    def step(self):
        time.sleep(self.seconds)
        return super().step()


def offers_of(tokenizer, reply, stages=("honesty", "sft", "pretrain"), seconds=0.0):
    """Models that say what `reply(stage, prompt's text)` returns: a text, or a message with calls."""
    made = []
    for stage in stages:
        model = Transformer(ModelConfig(tokenizer.vocab_size, 32, 64, 2, 4, 2, 16, max_position_embeddings=CONTEXT))
        model.init_weights(0)

        def read(model=model, stage=stage):
            engine = Talking(model, tokenizer, max_batch=8)
            engine.reply = lambda text: reply(stage, text)
            engine.seconds = seconds
            return engine

        n = model.n_parameters()
        made.append(AvailableModel(f"tiny-{stage}", stage, 1_700_000_000, model.config, CONTEXT, n, read))
    return made


def write_run(folder):
    """Documents with an index for the search, and the conversations of two stages."""
    (folder / "refine").mkdir(parents=True)
    rows = [{"id": d.id, "text": d.text, "url": d.url} for d in DOCUMENTS]
    (folder / "refine" / "documents.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "honesty").mkdir()
    build_index(DOCUMENTS, folder / "honesty" / INDEX)
    said = [
        {"role": "user", "content": "Who?"},
        {"role": "assistant", "content": "I am sorry, but I do not know that."},
    ]
    (folder / "honesty" / "conversations.jsonl").write_text(json.dumps({"messages": said}) + "\n")
    return folder


def call(name, **arguments):
    function = {"name": name, "arguments": arguments}
    return {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": function}]}
