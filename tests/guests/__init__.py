"""Array libraries that xprnn doesn't know: ``GUESTS=1 bash ci/test.sh``."""
