"""The network and backpropagation through time: every cell, every library."""
