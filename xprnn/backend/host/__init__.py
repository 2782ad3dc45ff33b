"""The host, whatever backend computes: its arrays, files, threads, memory and tuning."""
