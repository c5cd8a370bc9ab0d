"""Which parts of a text are word for word in the training documents."""
