"""The transformer, its cache, its files.

Shape suffixes of tensors, here and wherever models are used: B rows (sequences), T tokens of a row, S keys, N tokens of
several rows laid end to end, C width (channels), H heads, D head width, V vocabulary. A file that needs more letters
lists them at its top.
"""

from crawl2chat.model.cached import CachedTransformer
from crawl2chat.model.generating import load_to_generate
from crawl2chat.model.huggingface import load_model, save_model
from crawl2chat.model.kv_cache import KVCache
from crawl2chat.model.matrices import WeightForm
from crawl2chat.model.transformer import ModelConfig, Transformer

__all__ = [
    "CachedTransformer",
    "KVCache",
    "ModelConfig",
    "Transformer",
    "WeightForm",
    "load_model",
    "load_to_generate",
    "save_model",
]
