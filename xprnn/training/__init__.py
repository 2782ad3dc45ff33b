"""Training: steps, epochs, evaluation, and checkpoints to resume from."""
