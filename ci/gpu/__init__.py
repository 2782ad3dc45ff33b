"""What ``ci/gpu.sh`` runs; nothing here imports more than NumPy, CuPy and xprnn to be loaded."""
