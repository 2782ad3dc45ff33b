"""The precision of torch's products, which by default differs between cuBLAS and cuDNN."""

import torch


def dtype_for(precision: str) -> torch.dtype:
    """Return the dtype of the arrays, and allow TF32 to all products or to none.

    By default torch lets cuDNN round float32 operands to TF32, but not cuBLAS.
    """
    tf32 = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    return {"float16": torch.float16, "bfloat16": torch.bfloat16}.get(precision, torch.float32)
