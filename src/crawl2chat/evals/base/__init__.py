"""What a base model is like: compression, recitation, facts, learning in context, sums, letters."""
