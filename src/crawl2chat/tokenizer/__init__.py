"""From text to token ids and back: training byte-pair encodings, encoding, chat format."""

from crawl2chat.tokenizer.tokenizer import Message, Tokenizer, ToolCall

__all__ = ["Message", "Tokenizer", "ToolCall"]
