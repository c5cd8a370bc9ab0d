"""Quality as a model judges it, and a classifier that learns from its judgements."""
