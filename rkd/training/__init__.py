"""Train one model: batches, loop, evaluation and checkpoints."""
