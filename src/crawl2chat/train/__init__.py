"""Training: batches, optimiser, schedule, the loop, and the pretraining stage."""
