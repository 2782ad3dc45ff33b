"""One layer in one direction: everything around its time loop."""
