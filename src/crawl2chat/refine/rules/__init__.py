"""Quality rules of published datasets, URL filters, personal data and test questions: a verdict for each document."""
