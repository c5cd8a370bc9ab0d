"""The stages in order, and what each reads: every list of stages is derived from this table."""

from crawl2chat.stages.stage import Stage

STAGES = (
    Stage("crawl", (), "crawl2chat.tinyweb.write:crawl"),
    Stage("refine", ("crawl",), "crawl2chat.refine.stage:refine"),
    # a checkpoint from outside brings its tokenizer; what it learned from, which base compares with, is not known
    Stage("tokenizer", ("refine",), "crawl2chat.tokenizer.stage:train_tokenizer", replaced_by_import=True),
    Stage(
        "pretrain", ("refine", "tokenizer"), "crawl2chat.train.pretrain:pretrain",
        on_all_ranks=True, makes="base", replaced_by_import=True,
    ),
    Stage("base", ("crawl", "refine", "pretrain"), "crawl2chat.evals.base.stage:measure_base", replaced_by_import=True),
    Stage("synthesize", ("refine",), "crawl2chat.synthesis.stage:synthesize", optional=("pretrain",)),
    Stage(
        "sft", ("conversations", "model"), "crawl2chat.chat.sft:sft", makes="assistant",
        optional=("questions", "problems"),
    ),
    Stage(
        "honesty", ("questions", "model"), "crawl2chat.honesty.stage:honesty", makes="assistant",
        optional=("refine", "problems", "pretrain"), teaches_tools=True,
    ),
    Stage(
        "reinforce", ("problems", "model"), "crawl2chat.rl.stage:reinforce", makes="assistant", teaches_tools=True
    ),
    Stage(
        "prefer", ("prompts", "model"), "crawl2chat.rl.preferences.stage:prefer", makes="assistant", teaches_tools=True
    ),
)  # fmt: skip
STAGE_NAMES = tuple(stage.name for stage in STAGES)
BEFORE_PRETRAIN = STAGE_NAMES[: STAGE_NAMES.index("pretrain")]
REPLACED_BY_IMPORT = tuple(stage.name for stage in STAGES if stage.replaced_by_import)
CHAT_STAGES = tuple(stage.name for stage in STAGES if stage.makes == "assistant")
TOOL_STAGES = tuple(stage.name for stage in STAGES if stage.teaches_tools)  # a model of theirs is taught to call tools

# Files that a source of pages, or a user, brings: an input of this name is `NAME.jsonl`, and what is next to it counts.
FILES = {"conversations": "", "questions": "refusals.txt", "problems": "", "prompts": "taste.json"}
SYNTHESIZED = ("conversations", "questions")  # those that the stage synthesize writes where a recipe names none


def find_stage(name: str) -> Stage:
    return next(stage for stage in STAGES if stage.name == name)
