"""The transformer, its cache, its files."""

from crawl2chat.model.cached import CachedTransformer
from crawl2chat.model.huggingface import load_model, save_model
from crawl2chat.model.kv_cache import KVCache
from crawl2chat.model.transformer import ModelConfig, Transformer

__all__ = ["CachedTransformer", "KVCache", "ModelConfig", "Transformer", "load_model", "save_model"]
