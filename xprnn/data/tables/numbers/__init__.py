"""Numbers as people and programs write them."""
