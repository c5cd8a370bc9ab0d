"""What `bench/gpu.py` measures: one module per part, each a function from a job to rows of a table."""
