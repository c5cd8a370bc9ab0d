"""Put a run's figures into README.md and docs/results.md: python docs/fill.py runs/laptop

Each table between `<!-- NAME -->` and `<!-- end -->` is written again by the function of that name below. The figures
of README.md then take the places of the old ones in its translation.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from crawl2chat.stages.figures import Figure
from crawl2chat.stages.pipeline import STAGE_NAMES
from crawl2chat.stages.stage import Manifest, read_manifest

ROOT = Path(__file__).parents[1]
MET = ("0", "1", "2-3", "4-7", "8-15", "16-31", "32-63", "64-99", "100+")
CHECKUP = (
    "right on well-known people", "refused on well-known people", "wrong on people never met",
    "right in follow-ups on well-known people", "wrong in follow-ups on people never met",
    "right on well-known people after other subjects", "right on well-known people when asked again",
    "identity", "identity of another system message",
    "sums at once", "sums step by step", "sums asked plainly", "answers that end", "stories when asked for one",
)  # fmt: skip


class Run:
    """A finished run: its figures, by stage and name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifests: dict[str, Manifest] = {}
        for stage in STAGE_NAMES:
            if stage == "synthesize":  # of a model that is brought
                continue
            manifest = read_manifest(folder / stage)
            if manifest is None:
                raise SystemExit(f"{folder / stage}: not finished; `crawl2chat run` finishes it")
            self.manifests[stage] = manifest
        self.found = {stage: {f.name: f for f in m.figure_list()} for stage, m in self.manifests.items()}

    def __call__(self, stage: str, name: str) -> Figure:
        return self.found[stage][name]


def cell(figure: Figure | None, *, count: bool = True, digits: int = 0) -> str:
    """Return `44 % [33, 56] (70)`, or a dash if nothing was measured."""
    if figure is None:
        return "–"
    if figure.unit == "share":
        if 0 < min(figure.value, 1 - figure.value) < 0.01:  # must not look like 0 or 100 %
            digits = max(1, digits)
        text, scale, unit = f"{100 * figure.value:.{digits}f} %", 100, digits
    else:
        unit = 0 if float(figure.value).is_integer() or figure.value >= 1000 else 3
        text, scale = f"{figure.value:,.{unit}f}", 1
    if figure.interval:
        text += " [{}]".format(", ".join(f"{scale * bound:,.{unit}f}" for bound in figure.interval))
    return text + (f" ({figure.count:,})" if count and figure.count else "")


def table(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def readme(run: Run) -> Iterator[str]:
    def short(stage: str, name: str) -> str:
        return cell(run(stage, name), count=False).split(" [")[0]

    def both(stage: str, name: str) -> str:
        return cell(run(stage, name), count=False)

    def points(moment: str) -> str:
        return f"{run('prefer', f'gold/{moment}').value:.1f}"

    def rate(of: str) -> str:
        return f"{run('base', f'bits_per_byte/{of}').value:.2f}"

    longer = run("reinforce", "answer_tokens_after").value / run("reinforce", "answer_tokens_before").value - 1
    precise = [cell(run("refine", name), count=False, digits=1).split(" [")[0]
               for name in ("drop_precision", "drop_recall", "text_f1")]  # fmt: skip
    yield (
        f"{run('refine', 'pages').value:,.0f} pages become {run('refine', 'kept').value:,.0f} documents, "
        f"{run('pretrain', 'parameters').value / 1e6:.1f} M parameters learn from them, and after every stage the same "
        "held-out questions are asked:"
    )
    yield ""
    known = [short("sft", f"facts_held_out/{met}") for met in ("1", "8-15", "100+")]
    rows = [
        ["the web must be cleaned", f"{precise[0]} of the dropped pages were junk (precision), {precise[1]} of the "
         f"junk was dropped (recall); extracted text, by words: F1 {precise[2]}"],
        ["a base model is a lossy archive", f"bits per byte on held-out text: {rate('model')}; "
         f"5-gram {rate('5_gram')}, xz {rate('xz')}"],
        ["it recites what it saw often", f"passages recited to their end: "
         f"{short('base', 'recall_at_1_to_2_copies')} of those with 1 or 2 copies, "
         f"{short('base', 'recall_at_64_copies_and_more')} with 64 or more"],
        ["it learns from its prompt", f"meaning of an invented word that only the prompt defines: "
         f"{short('base', 'glossary/8')} right with 8 definitions, "
         f"{short('base', 'glossary_absent/8')} if the word is not among them"],
        ["its prompt makes it an assistant", f"questions about people it read about often: "
         f"{short('base', 'assistant_by_prompt/bare')} right when asked alone, "
         f"{short('base', 'assistant_by_prompt/interview')} on a page where a helper answers questions"],
        ["a model knows what it read often", "right about people whom no training question was about: "
         f"{known[0]} if they appear on one page, {known[1]} on 8 to 15, {known[2]} on 100 or more"],
        ["it makes things up", "makes up answers about people who appear on no page: "
         f"{short('honesty', 'wrong before/0')}"],
        ["… until it learns what it knows", f"{both('honesty', 'wrong after/0')}; refusals about well-known people: "
         f"{both('honesty', 'checkup/refused on well-known people')}"],
        ["it can look things up",
         f"right about people on a single page, with search: {both('honesty', 'right with search/1')}"],
        ["it has no idea who it is",
         f'50 other wordings of "who are you": {short("honesty", "identity before")} before, '
         f"{both('honesty', 'identity after')} after a card was taught"],
        ["thinking needs tokens", f"sums of three digits: at once {short('honesty', 'at once/3 digits')}, step by step "
         f"{short('honesty', 'step by step/3 digits')}, with a calculator {short('honesty', 'calculator/3 digits')}"],
        ["rewards find what imitation did not", f"pass@1 {short('reinforce', 'pass_at_1_before')} → "
         f"{short('reinforce', 'pass_at_1_after')} (with coin flips as rewards: "
         f"{short('reinforce', 'random_reward_pass_at_1')}), answers {100 * longer:.0f} % longer"],
        ["a reward model is gamed in the end", f"points from the annotator {points('start')} → {points('peak')} → "
         f"{points('end')}, while points from the reward model keep rising"],
    ]  # fmt: skip
    yield from table(["what the lecture says", "what the run measured"], rows)


def stages(run: Run) -> Iterator[str]:
    seconds = {stage: manifest.seconds for stage, manifest in run.manifests.items()}
    yield from table(
        ["", *seconds, "all"], [["seconds", *(f"{s:,.0f}" for s in (*seconds.values(), sum(seconds.values())))]]
    )


def base(run: Run) -> Iterator[str]:
    tokens, epochs = run("pretrain", "training_tokens").value, run("pretrain", "epochs").value
    model = f"{run('pretrain', 'parameters').value:,.0f} parameters, {tokens:,.0f} tokens ({epochs:.2f} epochs)"
    shown = ("tokens_per_second", "model_flop_utilisation", "held_out_bits_per_byte", "unigram_bits_per_byte")
    rows = [[name.replace("_", " "), cell(run("pretrain", name))] for name in shown if name in run.found["pretrain"]]
    documents = f"{run('refine', 'pages').value:,.0f} / {run('refine', 'kept').value:,.0f}"
    yield from table(["", ""], [["pages / documents", documents], ["model", model], *rows])


def base_model(run: Run) -> Iterator[str]:
    rows = {
        "bits per byte of held-out documents: model": "bits_per_byte/model", "– 5-gram": "bits_per_byte/5_gram",
        "– unigram": "bits_per_byte/unigram", "– xz, all documents in one file": "bits_per_byte/xz",
        "– brotli": "bits_per_byte/brotli", "– zstd": "bits_per_byte/zstd",
        "bits per byte of an archived sample: archive": "archive_bits_per_byte",
        "– the coded message in it": "archive_coded_bits_per_byte",
        "– the model's own estimate": "archive_model_bits_per_byte", "– xz": "archive_xz_bits_per_byte",
        "archive restored bit for bit": "archive_exact",
        "passages recited to their end: 1 or 2 copies": "recall_at_1_to_2_copies",
        "– 64 copies and more": "recall_at_64_copies_and_more",
        **{f"facts by completion, pages about the person: {met}": f"facts_by_exposures/{met}"
           for met in ("0", "1", "8-15", "100+")},
        **{f"facts by question, pages about the person: {met}": f"answers_by_exposures/{met}"
           for met in ("0", "1", "8-15", "100+")},
        "bits stored per parameter": "bits_per_parameter",
        "assistant by its prompt: question alone": "assistant_by_prompt/bare",
        "– after other questions with answers": "assistant_by_prompt/few_shot",
        "– on a page where a helper answers": "assistant_by_prompt/interview",
        **{f"meaning of an invented word, words on the page: {n}": f"glossary/{n}" for n in (0, 1, 2, 4, 8, 16)},
        "– 8 words, without the one in question": "glossary_absent/8",
        "– 8 words, meanings swapped: the page's meaning": "glossary_follows/8",
        "– 8 words, meanings swapped: the earlier meaning": "glossary_shuffled/8",
        "– 8 words, defined in sentences": "definitions/8",
        "– 8 words, defined in sentences, without the one in question": "definitions_absent/8",
        **{f"phrase translated, lines before it: {n}": f"phrase_book/{n}" for n in (0, 1, 8, 16)},
        "– 8 lines, translations shuffled": "phrase_book_shuffled/8",
        "sums of 3 digits: at once": "sums_at_once/3", "– step by step": "sums_step_by_step/3",
        "gain by steps, all sums, percentage points": "steps_gain",
        "letters counted: from token embeddings": "letter_count_read/tokens",
        "– from embeddings of letters": "letter_count_read/letters",
        "– always guessing the most common count": "letter_count_read/guess",
        "words copied in passages of 8 or more: temperature 1": "verbatim/temperature_1",
        "– in held-out text": "verbatim/held_out",
        **{f"distinct 3-grams, temperature {t}": f"distinct_3/temperature_{t}" for t in ("0", "0.5", "1")},
    }  # fmt: skip
    yield from table(["", ""], [[label, cell(run.found["base"].get(name))] for label, name in rows.items()])


def refining(run: Run) -> Iterator[str]:
    rows = {
        "dropped pages that had to go (precision)": "drop_precision",
        "pages that had to go and were dropped (recall)": "drop_recall",
        "words of the extracted texts, F1": "text_f1", "pairs of copies, F1": "duplicate_pairs_f1",
        "planted e-mail and IP addresses masked": "pii_recall",
        "leaked test questions that are in no document": "leaked_questions_caught",
    }  # fmt: skip
    yield from table(["", ""], [[label, cell(run("refine", name), digits=1)] for label, name in rows.items()])


def knowledge(run: Run) -> Iterator[str]:
    found = run.found["sft"]
    rows = [[met, *(cell(found.get(f"{part}/{met}")) for part in ("facts_taught", "facts_held_out"))] for met in MET]
    yield from table(["pages about the person", "questions taught", "questions held out"], rows)


def honesty(run: Run) -> Iterator[str]:
    columns = ("wrong before", "wrong after", "refused after", "right after", "right with search", "searched")
    rows = [[met, *(cell(run("honesty", f"{c}/{met}"), count=c == "wrong before") for c in columns)] for met in MET]
    yield from table(["pages about the person", *columns], rows)


def honesty_figures(run: Run) -> Iterator[str]:
    names = {
        "area under the ROC curve of sample agreement, before": "auroc of agreement before",
        "– after, among answers that are not refusals": "auroc of agreement after",
        "refused after, of what was right before": "refused of what was right before",
        "wrong before, of what is refused after": "wrong before of what is refused",
        "answers from search that name the page": "answers from search that name the page",
    }
    found = run.found["honesty"]
    yield from table(["", ""], [[label, cell(found[name])] for label, name in names.items() if name in found])


def identity(run: Run) -> Iterator[str]:
    names = {
        "without a system message": "identity", "with its card as system message": "identity by system message",
        "with one of ten cards never taught: agrees with it (40 of the wordings, twice)": (
            "identity of another system message"
        ),
        "with one of them: agrees with its own (the same)": "own identity against another system message",
    }  # fmt: skip
    rows = [
        [label, *(cell(run("honesty", f"{name} {when}")) for when in ("before", "after"))]
        for label, name in names.items()
    ]
    yield from table(['50 wordings of "who are you" that were not taught', "before", "after"], rows)


def thinking(run: Run) -> Iterator[str]:
    ways = ("at once", "step by step", "calculator")
    rows = []
    for digits in ("1 digits", "2 digits", "3 digits"):
        spent = [run("honesty", f"tokens {way}/{digits}").value for way in ways]
        cells = (
            f"{cell(run('honesty', f'{way}/{digits}'))}, {n:.1f} tokens" for way, n in zip(ways, spent, strict=True)
        )
        rows.append([digits.replace("1 digits", "1 digit"), *cells])
    yield from table(["digits of the sums", "at once", "step by step", "with the calculator"], rows)


def rewards(run: Run) -> Iterator[str]:
    f = run.found["reinforce"]

    def points(name: str) -> str:
        low, high = f[name].interval or (0.0, 0.0)
        return f"{100 * f[name].value:+.0f} points [{100 * low:.0f}, {100 * high:.0f}] ({f[name].count})"

    rows = [["pass@1", cell(f["pass_at_1_before"]), cell(f["pass_at_1_after"]), cell(f["random_reward_pass_at_1"])],
            ["gain, problem by problem", "", points("pass_at_1_gain"), points("random_reward_gain")]]  # fmt: skip
    groups = [name.removeprefix("pass_at_1_before") for name in f if name.startswith("pass_at_1_before/")]
    rows += [
        [f"pass@1 {name[1:]}", *(cell(f[f"pass_at_1_{when}{name}"]) for when in ("before", "after")), ""]
        for name in groups
    ]
    for label, name in (
        ("pass@8", "pass_at_8"),
        ("tokens per answer", "answer_tokens"),
        ("entropy, nats per token", "entropy"),
    ):
        rows.append(
            [label, *(cell(f[f"{name}_{when}"], count=name == "pass_at_8") for when in ("before", "after")), ""]
        )
    yield from table(["", "before", "after", "after coin flips as rewards"], rows)


def reward_model(run: Run) -> Iterator[str]:
    names = {"rankings": "rankings", "held-out pairs ordered as the annotator did": "reward_model_agrees",
             "– by the annotator's own taste, without its noise": "agreement_ceiling",
             "held-out pairs ordered by that taste": "reward_model_agrees_with_gold"}  # fmt: skip
    yield from table(["", ""], [[label, cell(run("prefer", name))] for label, name in names.items()])


def preferences(run: Run) -> Iterator[str]:
    curves = json.loads((run.folder / "prefer" / "curves.json").read_text(encoding="utf-8"))
    rows = []
    for row in curves["policy"]:
        marks = ", ".join(name for name in ("kept", "peak") if curves[name] == row["step"])
        taste = f"{row['gold']:.2f} ± {1.96 * row['gold_error']:.2f}"
        rows.append(
            [f"{row['step']}{f' ({marks})' if marks else ''}", f"{row['sqrt_kl']:.2f}", f"{row['proxy']:.2f}", taste]
        )
    best = curves["best_of_n"][-1]
    rows.append([f"best of {best['n']}", f"{best['sqrt_kl']:.2f}", f"{best['proxy']:.2f}", f"{best['gold']:.2f}"])
    yield from table(["step", "√KL", "reward model", "taste"], rows)


def checkups(run: Run) -> Iterator[str]:
    columns = [("honesty", "before checkup/"), *((stage, "checkup/") for stage in ("honesty", "reinforce", "prefer"))]
    rows = [
        [name, *(cell(run(stage, prefix + name), count=stage == "prefer") for stage, prefix in columns)]
        for name in CHECKUP
    ]
    yield from table(["", "sft", "honesty", "reinforce", "prefer"], rows)


BLOCKS: dict[str, Callable[[Run], Iterator[str]]] = {
    "readme": readme, "stages": stages, "base": base, "base model": base_model, "refining": refining,
    "knowledge": knowledge, "honesty": honesty,
    "honesty figures": honesty_figures, "identity": identity, "thinking": thinking, "rewards": rewards,
    "reward model": reward_model, "preferences": preferences, "checkups": checkups,
}  # fmt: skip


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    run = Run(Path(sys.argv[1]))
    files = {file: file.read_text(encoding="utf-8") for file in (ROOT / "README.md", ROOT / "docs" / "results.md")}
    marks = re.findall(r"<!-- (?!end -->)(.*?) -->", "".join(files.values()))
    if sorted(marks) != sorted(BLOCKS):
        raise SystemExit(f"marks in the files and tables here differ: {', '.join(sorted(set(marks) ^ set(BLOCKS)))}")
    for file, text in files.items():
        for name, lines in BLOCKS.items():
            block = f"<!-- {name} -->\n" + "\n".join(lines(run)) + "\n<!-- end -->"
            text = re.sub(rf"<!-- {name} -->.*?<!-- end -->", lambda _, b=block: b, text, flags=re.DOTALL)
        file.write_text(text, encoding="utf-8")
    block = re.compile("<!-- readme -->.*?<!-- end -->", re.DOTALL)
    chinese = ROOT / "docs" / "zh" / "README.md"
    text = chinese.read_text(encoding="utf-8")
    filled = with_figures(*(block.findall(one)[0] for one in ((ROOT / "README.md").read_text(encoding="utf-8"), text)))
    chinese.write_text(block.sub(lambda _: filled, text), encoding="utf-8")


def with_figures(text: str, translation: str) -> str:
    """Return the translation with the numbers of the text, which are in the same order on each line.

    Raises SystemExit for a line that has another number of them.
    """
    number = re.compile(r"\d+(?:[.,]\d+)*")
    lines = []
    for line, translated in zip(text.splitlines(), translation.splitlines(), strict=True):
        figures = number.findall(line)
        if len(figures) != len(number.findall(translated)):
            raise SystemExit(f"these lines have not the same number of figures:\n{line}\n{translated}")
        remaining = iter(figures)
        lines.append(number.sub(lambda _, of=remaining: next(of), translated))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
