"""CUDA kernels that know no cells: CUDA C as text, which a library compiles and launches."""
