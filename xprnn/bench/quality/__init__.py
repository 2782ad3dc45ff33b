"""The same character model trained in xprnn and in torch."""
