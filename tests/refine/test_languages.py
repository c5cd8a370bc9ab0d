"""Pages of many languages: prose stays, junk goes for what makes it junk, copies and test questions are found."""

import random
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from warcs import html, prose

from crawl2chat.crawl import Page, Place
from crawl2chat.refine import steps
from crawl2chat.refine.copies.dedup import alike, sign
from crawl2chat.refine.explain import describe, watch_page
from crawl2chat.refine.quality.classify import features_of
from crawl2chat.refine.rules import Text
from crawl2chat.refine.rules.c4 import c4_quality
from crawl2chat.refine.rules.decontaminate import check_contamination
from crawl2chat.refine.rules.fineweb import fineweb_quality
from crawl2chat.refine.rules.gopher import ellipses
from crawl2chat.refine.settings import (
    C4Settings,
    DecontaminateSettings,
    DedupSettings,
    FineWebSettings,
    GopherQualitySettings,
    GopherRepetitionSettings,
    RefineSettings,
    for_language,
    thresholds_by_language,
)
from crawl2chat.refine.steps import KeptPage, Reject, refine_page, snippet
from crawl2chat.refine.text.language import require_languages
from crawl2chat.refine.text.words import count_sentences, ends_sentence, has_unspaced, split_words, words_of

TEXTS = tomllib.loads(Path(__file__).with_name("languages.toml").read_text(encoding="utf-8"))
PROSE = {language: texts["prose"] for language, texts in TEXTS.items()}
KEYWORDS = {language: texts["keywords"].split() for language, texts in TEXTS.items() if "keywords" in texts}
MENUS = {language: texts["menu"].split("|") for language, texts in TEXTS.items() if "menu" in texts}
UNSPACED = ("zh", "zh-Hant", "ja", "th", "km", "lo", "my")


def code(language: str) -> str:
    return language.split("-")[0]


def refined(text: str, language: str, **settings: Any) -> KeptPage | Reject:
    page = Page("https://example.org/", 200, "text/html; charset=utf-8", {}, html(text), Place("a", 1), "")
    return refine_page(page, RefineSettings(languages=[code(language)], **settings))


def reason(text: str, language: str) -> str | None:
    """Why the rules drop a text of which the language is known; short ones are not always identified."""
    draft = steps.Draft(Page("", 200, "", {}, b"", Place("a", 1), ""), text=text, language=language)
    rules = for_language(RefineSettings(languages=[]), language)
    for name in ("gopher_quality", "gopher_repetition", "c4", "fineweb"):
        verdict = steps.page_steps(rules)[name](draft, rules)
        if verdict.dropped:
            return verdict.reason
    return None


def joined(words: list[str], language: str) -> str:
    return ("" if code(language) in ("zh", "ja", "th") else " ").join(words)


@pytest.mark.parametrize("language", PROSE)
def test_prose_is_kept_whole(language):
    document = refined(PROSE[language], language)
    assert isinstance(document, KeptPage), document
    assert document.text == PROSE[language]
    assert document.language == code(language)


@pytest.mark.parametrize("language", KEYWORDS)
def test_keywords_lack_function_words(language):
    words = KEYWORDS[language]
    assert reason(" ".join(words * 3), language) == "few_stop_words"
    assert reason(("、" if language in ("zh", "ja") else ", ").join(words * 3), language) == "few_stop_words"


@pytest.mark.parametrize("language", MENUS)
def test_a_menu_is_dropped_however_it_is_laid_out(language):
    items = MENUS[language]
    of_lists = {"few_stop_words", "too_few_words", "too_few_sentences", "list_like", "duplicate_lines"}
    assert reason("\n".join(items * 4), language) in of_lists
    assert reason(" | ".join(items * 4), language) in {"few_stop_words", "duplicate_5_grams"}
    assert reason("\n".join(f"- {item} {item}" for item in items * 4), language) == "bullet_lines"


@pytest.mark.parametrize("language", KEYWORDS)
def test_menus_around_little_prose_are_cleaned_away(language):
    """C4: lines of fewer than three words go, and what is left is too little."""
    text = f"{PROSE[language].splitlines()[0]}\n" + "\n".join(KEYWORDS[language])
    verdict, cleaned = c4_quality(Text.of(PROSE[language] + "\n\n" + "\n".join(KEYWORDS[language])), C4Settings())
    assert (verdict.reason, cleaned) == (None, PROSE[language])
    assert c4_quality(Text.of(text), C4Settings(min_sentences=20))[0].reason == "too_few_sentences"


@pytest.mark.parametrize("language", KEYWORDS)
def test_what_repeats_itself_is_dropped(language):
    paragraphs = PROSE[language].split("\n\n")
    assert reason("\n".join([*paragraphs, *[paragraphs[1][:40]] * 8]), language) == "duplicate_lines"
    assert reason("\n\n".join(paragraphs * 2), language) == "duplicate_paragraphs"
    phrase = joined([paragraphs[1][:12]] * 40, language)
    assert (reason(f"{PROSE[language]}\n\n{phrase}", language) or "").startswith("top_")


@pytest.mark.parametrize("language", ["zh", "zh-Hant", "ja", "ru", "ar", "hi"])
def test_headlines_without_punctuation_are_no_prose(language):
    lines = [line for line in re.split(r"[。.।؟!！？?，,、،\n]+\s*", PROSE[language]) if len(words_of(line)) >= 6]
    assert reason("\n\n".join(lines), code(language)) in {"unpunctuated_lines", "list_like"}


@pytest.mark.parametrize("language", PROSE)
def test_a_stub_has_too_few_words(language):
    rules = for_language(RefineSettings(languages=[]), code(language)).gopher_quality
    words = split_words(PROSE[language].split("\n\n")[0])
    assert reason(" ".join(words[: rules.min_words // 2]), code(language)) == "too_few_words"


def test_one_line_of_chinese_may_be_long():
    paragraph = PROSE["zh"].replace("\n\n", "") * 4
    assert len(paragraph) > 1200
    assert " " not in paragraph
    assert c4_quality(Text.of(paragraph), C4Settings())[0].reason is None
    endless = "啊" + "x" * 1001
    assert endless not in c4_quality(Text.of(f"{PROSE['zh']}\n\n{endless}。"), C4Settings())[1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("我们昨天去了河边。", ["我们", "昨天", "去了", "河", "边", "。"]),
        ("東京タワーへ行った", ["東京タワー", "へ", "行", "っ", "た"]),
        ("ฉันรักแม่น้ำ", ["ฉัน", "รัก", "แม่น้ำ"]),
        ("ខ្ញុំទៅសាលារៀន", ["ខ្ញុំ", "ទៅ", "សាលារៀន"]),
        ("ຂ້ອຍໄປໂຮງຮຽນ", ["ຂ້ອຍ", "ໄປ", "ໂຮງຮຽນ"]),
        ("ကျောင်းသို့သွားသည်", ["ကျောင်း", "သို့", "သွား", "သည်"]),
        ("བོད་ཡིག", ["བོད", "་", "ཡིག"]),
        ("我用iPhone拍了3张照片 and left.", ["我", "用", "iPhone", "拍", "了", "3", "张", "照片", "and", "left."]),
        ("２０２４年３月", ["２０２４", "年", "３", "月"]),
        ("우리는 강가에 갔다.", ["우리는", "강가에", "갔다."]),
        ("don't “stop” – naïve", ["don't", "“stop”", "–", "naïve"]),
        ("", []),
    ],
)
def test_words_are_cut_where_their_script_has_no_spaces(text, words):
    assert split_words(text) == words


def test_vowel_signs_do_not_end_words():
    assert words_of("नदी के किनारे है। হয় தமிழ் ที่นี่") == ["नदी", "के", "किनारे", "है", "হয়", "தமிழ்", "ที่", "นี่"]


@pytest.mark.parametrize("seed", range(40))
def test_words_of_western_texts_are_what_they_always_were(seed):
    """Split at white space, and runs of \\w; symbols, accents, emoji and variation selectors change nothing."""
    draw = random.Random(seed)
    blocks = [(0x20, 0x7E), (0xA0, 0x482), (0x2000, 0x2BFF), (0x1F300, 0x1FAFF), (0xFE00, 0xFE0F), (0x300, 0x36F)]
    text = "".join(chr(draw.randint(*draw.choice(blocks))) if draw.random() < 0.7 else " " for _ in range(400))
    assert not has_unspaced(text)
    assert split_words(text) == text.split()
    assert words_of(text) == re.findall(r"\w+", text)


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("今天很好。我们去了河边！你呢？", 3),
        ("今天很好.我们去了河边!圆周率是3.14", 3),
        ("他说：「走吧。」然后离开了……", 2),
        ("只有标题没有句号", 1),
        ("私は行った｡彼は残った｡", 2),
        ("یہ دریا ہے۔ کیا آپ آئیں گے؟", 2),
        ("यह नदी है। वह गाँव है॥", 2),
        ("នេះជាទន្លេ។ គាត់ទៅផ្សារ៕", 2),
        ("ဒါက မြစ်ပါ။ သူ ဈေးသွားတယ်။", 2),
        ("བོད་ཡིག་རེད། ང་འགྲོ་གི་ཡིན།", 2),
        ("He said: “Go.” She went! Nobody knows", 3),
        ("หน้าแรก ข่าว สินค้า ติดต่อ", 1),
        ("เมื่อวานนี้เราไปที่โรงสีเก่าริมแม่น้ำ และเห็นผู้คนมากมายกำลังซ่อมกังหันน้ำ", 2),
    ],
)
def test_sentences_are_counted_by_the_marks_of_their_script(line, count):
    assert count_sentences(line) == count


@pytest.mark.parametrize(
    ("line", "ends"),
    [
        ("他走了。", True),
        ("「他走了。」", True),
        ("他说：“走吧！”", True),
        ("他走了……", True),
        ("新闻中心", False),
        ("（完）", False),
        ("क्या वह आया?", True),
        ("یہ دریا ہے۔", True),
        ("He left.", True),
        ("“He left.”", False),  # as FineWeb counts
        ("He left…", False),
        (")", False),
    ],
)
def test_lines_end_like_sentences_by_the_marks_of_their_script(line, ends):
    assert ends_sentence(line) is ends


def test_terminal_punctuation_is_asked_for_only_where_a_script_has_it():
    rules = C4Settings(terminal_punctuation=True, min_sentences=1)
    heading = {"zh": "关于我们的一些新消息", "th": "ข่าวล่าสุดเกี่ยวกับโรงสีของเรา"}
    for language in heading:
        verdict, cleaned = c4_quality(Text.of(f"{PROSE[language]}\n\n{heading[language]}"), rules)
        assert verdict.reason is None
        assert PROSE[language].replace("……", "") in cleaned.replace("……", "")
        assert (heading[language] in cleaned) is (language == "th")


def test_a_chinese_ellipsis_is_one():
    text = PROSE["zh"].replace("。", "……")
    share = text.count("……") / len(Text.of(text).words)
    assert not ellipses(Text.of(text), GopherQualitySettings(max_symbol_ratio=share)).dropped
    assert ellipses(Text.of(text), GopherQualitySettings(max_symbol_ratio=0.99 * share)).reason == "ellipses"


@pytest.mark.parametrize("language", UNSPACED)
def test_near_copies_are_found(language):
    settings = DedupSettings()
    words = split_words(PROSE[language])
    changed = [*words[:40], "2026", *words[41:]]
    other = random.Random(0).sample(words, len(words))
    first, copy, unlike = (sign("".join(text), settings) for text in (words, changed, other))
    shared = set(first.buckets.tolist()) & set(copy.buckets.tolist())
    assert shared
    assert not set(first.buckets.tolist()) & set(unlike.buckets.tolist())
    keys = np.array([1, 1], np.uint64)
    assert alike(keys, np.stack([first.low_bytes, copy.low_bytes]), settings.min_similarity)[1].tolist() == [1]


@pytest.mark.parametrize(
    ("language", "question"),
    [
        ("zh", "小明有十二个苹果，他送给妹妹五个，又买了三个，请问小明现在一共有多少个苹果？"),
        ("ja", "太郎くんはりんごを十二個持っていて、妹に五個あげました。残りはいくつですか。"),
        ("th", "สมชายมีแอปเปิ้ลสิบสองลูก ให้น้องสาวไปห้าลูก แล้วซื้อมาอีกสามลูก ตอนนี้สมชายมีแอปเปิ้ลกี่ลูก"),
    ],
)
def test_test_questions_are_found_with_and_without_a_mark_before_them(tmp_path, language, question):
    file = tmp_path / "questions.txt"
    file.write_text(f"{question}\n", encoding="utf-8")
    settings = DecontaminateSettings(against=[str(file)])
    paragraphs = PROSE[language].split("\n\n")
    for page in ("\n\n".join([*paragraphs[:2], question, *paragraphs[2:]]), paragraphs[0][:-1] + question):
        assert check_contamination(page, settings).reason == "contaminated"
    assert check_contamination(PROSE[language], settings).reason is None


def test_the_classifier_sees_chinese_words():
    river, mill = (set(features_of(text, 20).tolist()) for text in ("我们昨天去了河边。", "河边有一座磨坊，昨天开放。"))
    assert len(river & mill) >= 3  # 河, 边, 昨天


def test_a_rejected_chinese_page_shows_its_beginning():
    text = PROSE["zh"].replace("\n\n", "") * 9
    assert snippet(text, RefineSettings()) == text[:200]
    assert snippet(text[:1990] + "someone@example.org", RefineSettings()).startswith(text[:100])
    assert "some" not in snippet("x" * 10 + "字" + "someone" * 400, RefineSettings())


def test_thresholds_are_valid_settings_of_languages_that_are_identified():
    known = thresholds_by_language()
    require_languages(list(known))
    assert {"zh", "ja", "ko", "th", "ar", "hi", "ru", "de", "km", "lo", "my"} <= set(known)
    assert "en" not in known
    for language in known:
        settings = for_language(RefineSettings(), language)
        assert RefineSettings.model_validate(settings.model_dump()) == settings
        assert sorted(settings.gopher_repetition.max_top_ngrams) == [2, 3, 4]
        assert sorted(settings.gopher_repetition.max_duplicate_ngrams) == [5, 6, 7, 8, 9, 10]
        for rules in (settings.gopher_repetition, settings.gopher_quality, settings.fineweb, settings.c4):
            assert rules.enabled


def test_english_and_unknown_languages_are_judged_by_the_recipe_alone():
    settings = RefineSettings()
    assert for_language(settings, "en") is for_language(settings, "zu") is settings
    off = RefineSettings(language_thresholds=False)
    assert for_language(off, "zh") is off


def test_what_the_recipe_changes_holds_for_every_language():
    chinese = for_language(RefineSettings(), "zh")
    assert chinese.fineweb.min_punctuated_lines == 0.106
    assert chinese.gopher_quality.max_mean_word_length == 5
    assert for_language(RefineSettings(), "yue") == chinese
    mine = RefineSettings(
        fineweb=FineWebSettings(min_punctuated_lines=0.5),
        gopher_repetition=GopherRepetitionSettings(max_top_ngrams={2: 0.01}),
    )
    laid = for_language(mine, "zh")
    assert laid.fineweb.min_punctuated_lines == 0.5
    assert laid.gopher_repetition.max_top_ngrams == {2: 0.01}
    assert laid.fineweb.max_newlines_per_word == 0.178
    rejected = refined(PROSE["zh"], "zh", gopher_repetition=mine.gopher_repetition)
    assert isinstance(rejected, Reject)
    assert rejected.reason == "top_2_gram"


def test_thresholds_of_the_page_are_explained(tmp_path):
    headlines = "\n\n".join(re.split(r"[。，\n]+", PROSE["zh"]))
    page = Page("https://example.org/", 200, "text/html; charset=utf-8", {}, html(headlines), Place("a", 1), "")
    settings = RefineSettings(languages=["zh"])
    last = list(watch_page(page, tmp_path, settings))[-1]
    assert last.verdict.reason == "unpunctuated_lines"
    assert describe(last, settings).endswith("fineweb.min_punctuated_lines = 0.106")


def test_english_pages_pass_and_fail_as_before():
    """Of texts without other scripts nothing is segmented, so the rules see what they saw."""
    english = prose(1, 24)
    assert isinstance(refined(english, "en"), KeptPage)
    assert Text.of(english).words == [word.strip(".") for word in english.split()]
    assert fineweb_quality(Text.of(english.replace(".", ".”")), FineWebSettings()).reason == "unpunctuated_lines"
