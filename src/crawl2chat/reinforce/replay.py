"""Conversations of an earlier stage, learned from once more so that what they taught is not undone."""

from pathlib import Path

from crawl2chat.chat.conversations import pack, read_conversations
from crawl2chat.honesty.checkup import CONVERSATIONS
from crawl2chat.reinforce.settings import PolicySettings
from crawl2chat.tokens import Tokenizer
from crawl2chat.train.data import RowBatches


def replay_batches(earlier: Path, tokenizer: Tokenizer, context: int, settings: PolicySettings) -> RowBatches | None:
    """Batches of `settings.replay_tokens` of an earlier stage's conversations; None where it kept none."""
    file = earlier / CONVERSATIONS
    if not file.exists() or not settings.replay_weight:
        return None
    ids_nt, weights_nt, _ = pack(read_conversations(file), tokenizer, context, settings.seed)
    if not len(ids_nt):
        return None
    return RowBatches(ids_nt, weights_nt, max(1, settings.replay_tokens // context), settings.seed)
