import json

from crawl2chat.tokenizer.stage import TokenizerSettings, train_tokenizer


def test_a_text_with_too_few_pairs_makes_a_smaller_vocabulary_and_says_so(tmp_path, capfd):
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": f"mill {i % 7}"}) + "\n" for i in range(200)))
    figures = {figure.name: figure.value for figure in train_tokenizer(file, tmp_path / "out", TokenizerSettings())}
    assert figures["vocab_size"] < 300
    assert "not for tokenizer.vocab_size = 4096" in capfd.readouterr().err
