"""Time loops of CUDA kernels, launched through CuPy."""
