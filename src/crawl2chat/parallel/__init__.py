"""Work on many cores or machines: shards in processes or on Ray, ranks under torchrun."""
