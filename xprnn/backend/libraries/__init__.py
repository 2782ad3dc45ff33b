"""One file per array library, and one for user namespaces: what each adds to the standard."""
