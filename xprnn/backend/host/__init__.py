"""The host, whatever backend computes: its arrays, files, threads and memory."""
