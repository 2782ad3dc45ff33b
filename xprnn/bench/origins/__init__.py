"""xprnn against the plain algorithms that it grew out of; see `xprnn.bench`."""
