import json
from itertools import groupby
from operator import itemgetter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawl2chat.stages.files import StageError
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.tokenizer.tokenizer import CHAT_TEMPLATE, CONTROL_TOKENS

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Where is  the bridge?\n\nTell me."},
    {"role": "assistant", "content": "It is gone."},
]

CALL = {"type": "function", "function": {"name": "search", "arguments": {"query": "Zoë </tool_call>"}}}
TOOL_MESSAGES = [
    {"role": "user", "content": "Who is Zoë?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "Zoë is a baker."},
    {"role": "assistant", "content": "A baker."},
]


@given(st.text())
def test_text_survives_the_round_trip(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(st.lists(st.sampled_from([*CONTROL_TOKENS, "a", " ", "\n", "<|", "|>"])).map("".join))
def test_text_never_becomes_a_control_token(tokenizer, text):
    controls = set(tokenizer.controls.values())
    assert not controls & set(tokenizer.encode(text))
    ids, _ = tokenizer.encode_chat([{"role": "user", "content": text}])
    assert [id for id in ids if id in controls] == [tokenizer.controls["<|im_start|>"], tokenizer.end_of_turn]


@given(st.text())
def test_huggingface_reads_the_same_ids_from_tokenizer_json(tokenizer, tokenizers_twin, text):
    assert tokenizers_twin.encode(text, add_special_tokens=False).ids == tokenizer.encode(text)


@pytest.fixture(scope="module")
def saved(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(folder)
    return folder


@pytest.fixture(scope="module")
def tokenizers_twin(saved):
    tokenizers = pytest.importorskip("tokenizers")
    content = json.loads((saved / "tokenizer.json").read_text())
    content["added_tokens"] = []  # tokenizers turns text into control tokens; ours must not
    return tokenizers.Tokenizer.from_str(json.dumps(content))


def test_loads_what_it_saved(tokenizer, saved):
    again = Tokenizer.load(saved)
    assert (again.ranks, again.controls, again.pattern) == (tokenizer.ranks, tokenizer.controls, tokenizer.pattern)


def test_chat_ids_equal_the_template_that_others_render(tokenizer, saved):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(saved)
    assert theirs.chat_template == CHAT_TEMPLATE
    rendered = theirs.apply_chat_template(MESSAGES[:2], add_generation_prompt=True, tokenize=True, return_dict=False)
    assert rendered == tokenizer.encode_chat(MESSAGES[:2], add_generation_prompt=True)[0]


def test_tool_turns_equal_the_template_that_others_render(tokenizer, saved):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(saved)
    call = {"type": "function", "function": {"name": "search", "arguments": {"query": "Zoë"}}}
    messages = [TOOL_MESSAGES[0], {**TOOL_MESSAGES[1], "tool_calls": [call]}, *TOOL_MESSAGES[2:]]
    rendered = theirs.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
    assert rendered == tokenizer.encode_chat(messages, add_generation_prompt=True)[0]


def test_the_mask_of_a_tool_conversation_by_hand(tokenizer):
    """The call, its end, the answer and its end are the model's; what the tool said is not."""
    ids, mask = tokenizer.encode_chat(TOOL_MESSAGES)
    runs = [
        (m, tokenizer.decode(id for id, _ in run)) for m, run in groupby(zip(ids, mask, strict=True), itemgetter(1))
    ]
    assert runs == [
        (0, "<|im_start|>user\nWho is Zoë?<|im_end|>\n<|im_start|>assistant\n"),
        (1, '<tool_call>\n{"name": "search", "arguments": {"query": "Zoë </tool_call>"}}\n</tool_call><|im_end|>'),
        (
            0,
            "\n<|im_start|>user\n<tool_response>\nZoë is a baker.\n</tool_response><|im_end|>\n<|im_start|>assistant\n",
        ),
        (1, "A baker.<|im_end|>"),
        (0, "\n"),
    ]
    assert ids.count(tokenizer.controls["</tool_call>"]) == 1  # the one in the query is text


def test_the_mask_covers_what_the_assistant_writes_and_its_end(tokenizer):
    ids, mask = tokenizer.encode_chat(MESSAGES)
    assert len(ids) == len(mask)
    authored = [id for id, m in zip(ids, mask, strict=True) if m]
    assert tokenizer.decode(authored) == "It is gone.<|im_end|>"


def test_an_unknown_role_is_refused(tokenizer):
    with pytest.raises(ValueError, match="role 'robot': expected one of system, user, assistant"):
        tokenizer.encode_chat([{"role": "robot", "content": ""}])


def test_a_folder_without_a_tokenizer_is_named(tmp_path):
    with pytest.raises(StageError, match=r"no tokenizer\.json"):
        Tokenizer.load(tmp_path)


def test_a_normalizer_is_kept_or_refused(tokenizer, saved, tmp_path):
    content = json.loads((saved / "tokenizer.json").read_text())
    for normalizer, expected in (({"type": "NFC"}, True), (None, False)):
        (tmp_path / "tokenizer.json").write_text(json.dumps(content | {"normalizer": normalizer}))
        loaded = Tokenizer.load(tmp_path)
        assert (loaded.encode("e\u0301") == loaded.encode("\u00e9")) == expected
        loaded.save(tmp_path / "again")
        assert json.loads((tmp_path / "again" / "tokenizer.json").read_text())["normalizer"] == normalizer
    (tmp_path / "tokenizer.json").write_text(json.dumps(content | {"normalizer": {"type": "Lowercase"}}))
    assert Tokenizer.load(tmp_path).encode("Mills") == Tokenizer.load(tmp_path).encode("mills")


def test_a_loaded_tokenizer_is_saved_as_it_was(saved, tmp_path):
    """Somebody else's chat template, flags of added tokens, merges and files that we do not read go on unchanged."""
    content = json.loads((saved / "tokenizer.json").read_text())
    for token in content["added_tokens"]:
        token["special"] = token["content"] != "<tool_call>"
    content |= {"post_processor": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}}
    theirs = {
        "tokenizer.json": json.dumps(content, indent=3),
        "tokenizer_config.json": json.dumps({"eos_token": {"content": "<|endoftext|>"}, "chat_template": "old"}),
        "chat_template.jinja": "{{ messages[0].content }}\r\n",
        "special_tokens_map.json": "{}",
    }
    for name, text in theirs.items():
        (tmp_path / name).write_bytes(text.encode())
    loaded = Tokenizer.load(tmp_path)
    loaded.save(tmp_path / "again")
    again = {file.name: file.read_bytes().decode() for file in (tmp_path / "again").iterdir()}
    assert again == theirs
    assert loaded.chat_template == "{{ messages[0].content }}\r\n"
    assert loaded.eos_id == loaded.end_of_text


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("plain", "plain"),
        ([{"name": "rag", "template": "no"}, {"name": "default", "template": "yes"}], "yes"),
        (None, CHAT_TEMPLATE),
    ],
)
def test_the_chat_template_is_that_of_the_files_or_ours(saved, tmp_path, template, expected):
    (tmp_path / "tokenizer.json").write_bytes((saved / "tokenizer.json").read_bytes())
    config = {"model_max_length": 7} | ({"chat_template": template} if template else {})
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    loaded = Tokenizer.load(tmp_path)
    assert loaded.chat_template == expected
    loaded.save(tmp_path / "again")
    written = json.loads((tmp_path / "again" / "tokenizer_config.json").read_text())
    assert written == config | {"chat_template": template or CHAT_TEMPLATE}


SPLIT = {"type": "Split", "pattern": {"Regex": r"\p{L}+|\p{N}"}, "behavior": "Isolated", "invert": False}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}


@pytest.mark.parametrize(
    "pre_tokenizer",
    [
        None,
        {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        {"type": "Sequence", "pretokenizers": [SPLIT, SPLIT, BYTES]},
        {"type": "Sequence", "pretokenizers": [SPLIT, BYTES | {"add_prefix_space": True}]},
        {"type": "Sequence", "pretokenizers": [SPLIT | {"behavior": "Removed"}, BYTES]},
        {"type": "Sequence", "pretokenizers": [SPLIT | {"pattern": {"String": " "}}, BYTES]},
    ],
)
def test_a_way_of_splitting_that_tiktoken_does_not_know_is_left_to_the_library(saved, tmp_path, pre_tokenizer):
    theirs = pytest.importorskip("tokenizers")
    content = json.loads((saved / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps(content | {"pre_tokenizer": pre_tokenizer}))
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.library is not None
    text = "In 1842 they counted 17 mills,  Don't \n\n東京"
    assert tokenizer.encode(text) == theirs.Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode(text).ids


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"model": {"type": "BPE", "vocab": {"東": 0}}}', "\xff"])
def test_a_tokenizer_that_can_not_be_read_is_named(tmp_path, text):
    (tmp_path / "tokenizer.json").write_text(text, encoding="latin-1" if text == "\xff" else "utf-8")
    with pytest.raises(StageError, match=r"tokenizer\.json: "):
        Tokenizer.load(tmp_path)


def test_ids_beyond_the_vocabulary_are_shown_not_fatal(tokenizer):
    assert tokenizer.decode([*tokenizer.encode("the"), tokenizer.vocab_size + 5]) == "the\ufffd"
