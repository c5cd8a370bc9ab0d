"""The documents in Chinese say what the English ones say: the same commands, figures, tables and headings."""

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAIRS = {
    "README.md": "docs/zh/README.md",
    "docs/howto-assistant.md": "docs/zh/howto-assistant.md",
    "docs/bring-a-model.md": "docs/zh/bring-a-model.md",
}


def blocks(file: str) -> list[str]:
    """Paragraphs, lists, tables and code, each as one block."""
    text = (ROOT / file).read_text(encoding="utf-8")
    parts = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    return [
        block.strip()
        for part in parts
        for block in ([part] if part.startswith("```") else part.split("\n\n"))
        if block.strip()
    ]


def shape(block: str) -> str | tuple[object, ...]:
    """What a translation leaves as it is."""
    if block.startswith("```"):
        return block
    lines = block.splitlines()
    return (
        [re.match(r"#*", line)[0] for line in lines],
        [line.count("|") for line in lines],
        [line.startswith("- ") for line in lines],
        Counter(re.findall(r"`[^`]+`", block)),
        Counter(re.findall(r"\d+(?:[.,]\d+)*", re.sub(r"`[^`]+`|\]\([^)]*\)", "", block))),
        sorted(Path(target.partition("#")[0]).name for target in re.findall(r"\]\(([^)]+)\)", block)),
    )


@pytest.mark.parametrize(("english", "chinese"), PAIRS.items())
def test_a_translation_is_in_step(english, chinese):
    pairs = list(zip(blocks(english), blocks(chinese), strict=False))
    differing = [f"{one}\n\n=>\n\n{other}" for one, other in pairs if shape(one) != shape(other)]
    assert not differing, f"{chinese} is not in step with {english}; translate again:\n\n{differing[0]}"
    assert len(blocks(english)) == len(blocks(chinese))


@pytest.mark.parametrize("chinese", PAIRS.values())
def test_its_links_lead_somewhere(chinese):
    file = ROOT / chinese
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", file.read_text(encoding="utf-8"))
    assert [target for target in targets if not (file.parent / target).exists()] == []


def test_new_figures_are_put_into_the_translation_where_the_old_ones_were(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    from fill import with_figures

    english = "95 % are wrong,\n1,200 of them [1, 2]"
    assert with_figures(english, "错 1 %，\n其中 2 个 [3, 4]") == "错 95 %，\n其中 1,200 个 [1, 2]"
    with pytest.raises(SystemExit, match="其中"):
        with_figures(english, "错 1 %，\n其中 2 个")
