"""Training.  `fit` checks its arguments and makes a `TrainingRun`, the loop over epochs; that takes
a `TrainingStep` for every batch, and adds the results up in an `Epoch`.
"""
