"""Whether gradients are right: of a network, of a cell, of a lowered loop."""
