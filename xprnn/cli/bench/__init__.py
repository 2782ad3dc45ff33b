"""The comparisons of the command line: each runs `xprnn.bench` and prints its rows."""
