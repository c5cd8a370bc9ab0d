"""An archiver: text compressed by a model's predictions and an arithmetic coder, and restored exactly.

An application of a trained model, with the commands `compress` and `decompress`; it shows that a language model is a
compressor. The base suite measures it.
"""
