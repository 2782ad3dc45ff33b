"""The network and backpropagation through time, for every cell and every array library."""
