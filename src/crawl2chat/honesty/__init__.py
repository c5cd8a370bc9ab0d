"""Honesty: find out what a model knows, teach it to say so, to look things up, and who it is."""
