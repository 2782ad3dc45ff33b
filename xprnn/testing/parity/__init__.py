"""Whether every backend computes what NumPy computes."""
