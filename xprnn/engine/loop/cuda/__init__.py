"""The lowering to CUDA: time loops of products and kernels, launched through CuPy."""
