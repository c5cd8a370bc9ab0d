"""Measurements of a model; they read models and generate, and know nothing of later stages."""
