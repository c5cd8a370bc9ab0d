"""Questions, answers and conversations that a model writes from documents, as far as they can be checked."""
