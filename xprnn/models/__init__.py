"""Networks made for a task: a forecaster, a language model, an ensemble."""
