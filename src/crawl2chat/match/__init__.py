"""A search for copies: which passages of a text are word for word in documents, such as those a model was trained on.

An application of its own, with the command `match`; the base suite uses it to measure what a model copies.
"""
