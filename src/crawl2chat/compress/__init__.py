"""Texts compressed with a model's predictions and an arithmetic coder."""
