"""Layer normalisation in a time loop on a device: one more kernel a step each way.

Forward it runs between the product and the kernel of the cell, backward between the kernel of the
cell and the product.  Equations (3) and (7) are those of `xprnn.engine.loop.protocol`; the lines
follow `xprnn.engine.normalization`.

A block takes one sequence, because mean and variance are over all K = G·H rows of its product.
Sums are in a fixed order, and only one thread writes to an entry: the same bits each time.
"""

from xprnn.backend import dtype_name
from xprnn.backend.cuda.blocks import SUM_REAL, THREADS
from xprnn.backend.cuda.precision import PRECISIONS, access
from xprnn.backend.kernels import Kernels, StepLaunch
from xprnn.backend.types import Array
from xprnn.engine.loop.cuda.arrays import Maker
from xprnn.engine.normalization import EPSILON, Normalized

FORWARD, BACKWARD = "xprnn_normalize", "xprnn_normalize_backward"

_ROWS = f"for (long long k = threadIdx.x; k < K; k += {THREADS})"
"""Each thread takes the same rows in every such loop, so it may overwrite what it has read."""


def forward_text(dtype: str, *, save: bool) -> str:
    """Return the kernel that replaces a(t), (B, K), by v(t), and saves N(a(t)) and r."""
    made = ",\n    stored* n, stored* r" if save else ""
    keep_n = "store(n, (t * B + b) * K + k, n_);" if save else ""
    keep_r = "if (threadIdx.x == 0) store(r, t * B + b, r_);" if save else ""
    return f"""{access(PRECISIONS[dtype])}{SUM_REAL}
extern "C" __global__ void {FORWARD}(
    long long t, long long B, long long K, const stored* __restrict__ gain, stored* v{made})
{{
    const long long b = blockIdx.x, row = b * K;
    real sum = 0, squares = 0;
    {_ROWS} sum += load(v, row + k);
    const real mean = sum_over_block(sum) / (real)K;
    {_ROWS} {{
        const real centred = load(v, row + k) - mean;
        squares += centred * centred;
    }}
    const real r_ = 1 / sqrt(sum_over_block(squares) / (real)K + (real){EPSILON!r});
    {_ROWS} {{
        const real n_ = (load(v, row + k) - mean) * r_;
        {keep_n}
        store(v, row + k, load(gain, k) * n_);
    }}
    {keep_r}
}}
"""  # (3)


def backward_text(dtype: str) -> str:
    """Return the kernel that makes da(t) of dv(t), and adds dγ(t) up for each sequence."""
    return f"""{access(PRECISIONS[dtype])}{SUM_REAL}
extern "C" __global__ void {BACKWARD}(
    long long t, long long B, long long K, const stored* __restrict__ gain,
    const stored* __restrict__ n, const stored* __restrict__ r, const stored* dv, stored* da,
    real* total)
{{
    const long long b = blockIdx.x, row = (t * B + b) * K;
    real sum = 0, along = 0;
    {_ROWS} {{
        const real n_ = load(n, row + k), dv_ = load(dv, row + k), dn = load(gain, k) * dv_;
        sum += dn;
        along += dn * n_;
        total[b * K + k] += dv_ * n_;
    }}
    const real mean = sum_over_block(sum) / (real)K, mean_n = sum_over_block(along) / (real)K;
    const real r_ = load(r, t * B + b);
    {_ROWS} {{
        const real dn = load(gain, k) * load(dv, row + k);
        store(da, row + k, r_ * (dn - mean - load(n, row + k) * mean_n));
    }}
}}
"""  # (7)


def forward_launch(
    device: Kernels, make: Maker, gain: Array, v: Array, steps: int, *, save: bool
) -> tuple[StepLaunch, Normalized | None]:
    """Return the launch between the product, which writes a(t) into ``v``, and the cell's kernel.

    And N(a) and r of all steps, which it writes, if they are saved.
    """
    batch, rows = v.shape
    made = Normalized(make.empty(steps, batch, rows), make.empty(steps, batch, 1)) if save else None
    launch = device.compiled(FORWARD, forward_text(dtype_name(v.dtype), save=save))
    arguments = (batch, rows, gain, v, *(made or ()))
    return StepLaunch(launch, (batch, 1), (THREADS, 1), arguments), made


def backward_launch(
    device: Kernels, gain: Array, normalized: Normalized, dv: Array, da: Array, total: Array
) -> StepLaunch:
    """Return the launch between the cell's kernel and the product.

    Parameters
    ----------
    gain : array, (K,)
    normalized : Normalized
        Of all steps.
    dv, da : array, (T, B, K)
        They may be the same array.
    total : array, (B, K)
        What dγ(t) is added to.
    """
    _, batch, rows = dv.shape
    launch = device.compiled(BACKWARD, backward_text(dtype_name(dv.dtype)))
    arguments = (batch, rows, gain, *normalized, dv, da, total)
    return StepLaunch(launch, (batch, 1), (THREADS, 1), arguments)
