"""Time loops of calls of NumPy."""
