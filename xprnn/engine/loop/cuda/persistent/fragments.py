"""Parts of a persistent kernel that know no cell: sums of products, and waiting for other blocks.

The constants in capitals are those of `xprnn.engine.loop.cuda.persistent.tile`.
"""

_HEAD = "static __device__ __forceinline__ "

SHARED = "extern __shared__ float4 shared[];"
"""The memory of a block, whose size is given at the launch."""

QUAD_TYPE = """
struct alignas(16) quad { real e[4]; };
"""

FUNCTIONS = {
    "rounded": f"""
// A number as it is read again after it has been stored.
{_HEAD}real rounded(real x) {{
    stored held;
    store(&held, 0, x);
    return load(&held, 0);
}}
""",
    "fresh": f"""
// Reads what another block has written: not through the cache that is the multiprocessor's own.
{_HEAD}real fresh(const stored* p, long long k) {{
    const stored held = __ldcg(p + k);
    return load(&held, 0);
}}
""",
    "summed": f"""
// A sum of a sequence and a row: of its parts, always in the same order.
{_HEAD}real summed(const real* parts, int sequence, int row) {{
    real sum = parts[sequence * ROWS + row];
    for (int part = 1; part < PARTS; ++part)
        sum += parts[(part * SEQUENCES + sequence) * ROWS + row];
    return sum;
}}
""",
}
"""Small functions, by their names."""

PRODUCTS = f"""
{_HEAD}real kept(real x) {{ return x; }}

struct Sums {{ real of[TILE_SEQUENCES][TILE_ROWS]; }};

// Adds the products of a chunk: a thread has several sequences and rows, and a part of each sum.
{_HEAD}void add_products(Sums& sums, const real* W, const real* X) {{
    const int group = threadIdx.x % ROW_GROUPS, part = threadIdx.x / ROW_GROUPS / SEQUENCE_GROUPS;
    const int first = threadIdx.x / ROW_GROUPS % SEQUENCE_GROUPS * TILE_SEQUENCES;
    if (part >= PARTS) return;
    #pragma unroll UNROLL
    for (int k = 4 * part; k < CHUNK; k += 4 * PARTS) {{
        quad w[TILE_ROWS], x[TILE_SEQUENCES];
        #pragma unroll
        for (int m = 0; m < TILE_ROWS; ++m)
            w[m] = *(const quad*)(W + (m * ROW_GROUPS + group) * STRIDE + k);
        #pragma unroll
        for (int s = 0; s < TILE_SEQUENCES; ++s)
            x[s] = *(const quad*)(X + (first + s) * SEQUENCE_STRIDE + k);
        #pragma unroll
        for (int s = 0; s < TILE_SEQUENCES; ++s)
            #pragma unroll
            for (int m = 0; m < TILE_ROWS; ++m)
                #pragma unroll
                for (int e = 0; e < 4; ++e) sums.of[s][m] += w[m].e[e] * x[s].e[e];
    }}
}}

{_HEAD}void put_parts(const Sums& sums, real* parts) {{
    const int group = threadIdx.x % ROW_GROUPS, part = threadIdx.x / ROW_GROUPS / SEQUENCE_GROUPS;
    const int first = threadIdx.x / ROW_GROUPS % SEQUENCE_GROUPS * TILE_SEQUENCES;
    if (part >= PARTS) return;
    #pragma unroll
    for (int s = 0; s < TILE_SEQUENCES; ++s)
        #pragma unroll
        for (int m = 0; m < TILE_ROWS; ++m)
            parts[(part * SEQUENCES + first + s) * ROWS + m * ROW_GROUPS + group] = sums.of[s][m];
}}
"""

MMA = f"""
{_HEAD}real kept(real x) {{
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return __uint_as_float(bits);
}}

// c += a b, of 16 x 8 and 8 x 8 numbers in TF32 that the 32 threads of a warp hold together.
{_HEAD}void multiply_add(real (&c)[4], real a0, real a1, real a2, real a3, real b0, real b1) {{
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
        "{{%0, %1, %2, %3}}, {{%4, %5, %6, %7}}, {{%8, %9}}, {{%0, %1, %2, %3}};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(__float_as_uint(a0)), "r"(__float_as_uint(a1)), "r"(__float_as_uint(a2)),
          "r"(__float_as_uint(a3)), "r"(__float_as_uint(b0)), "r"(__float_as_uint(b1)));
}}
"""
"""The two instructions of tensor cores that are in use, from compute capability 8.0 on."""

TENSOR_PRODUCTS = f"""
struct Sums {{ real of[TILE_ROWS][4]; }};

// Adds the products of a chunk: a warp has 16 sequences, some times 8 rows, and a part of each sum.
// Which of 16 terms is which is up to us, as long as it is the same for both factors: a thread
// takes four neighbours.
{_HEAD}void add_products(Sums& sums, const real* W, const real* X) {{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, line = lane / 4;
    const int four = lane % 4 * 4;
    const int group = warp % ROW_GROUPS, part = warp / ROW_GROUPS / SEQUENCE_GROUPS;
    const int first = warp / ROW_GROUPS % SEQUENCE_GROUPS * 16 + line;
    if (part >= PARTS) return;
    #pragma unroll UNROLL
    for (int k = 16 * part; k < CHUNK; k += 16 * PARTS) {{
        const quad above = *(const quad*)(X + first * SEQUENCE_STRIDE + k + four);
        const quad below = *(const quad*)(X + (first + 8) * SEQUENCE_STRIDE + k + four);
        #pragma unroll
        for (int m = 0; m < TILE_ROWS; ++m) {{
            const int row = (m * ROW_GROUPS + group) * 8 + line;
            const quad w = *(const quad*)(W + row * STRIDE + k + four);
            #pragma unroll
            for (int e = 0; e < 4; e += 2)
                multiply_add(sums.of[m], above.e[e], below.e[e], above.e[e + 1], below.e[e + 1],
                             w.e[e], w.e[e + 1]);
        }}
    }}
}}

{_HEAD}void put_parts(const Sums& sums, real* parts) {{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, line = lane / 4;
    const int two = lane % 4 * 2;
    const int group = warp % ROW_GROUPS, part = warp / ROW_GROUPS / SEQUENCE_GROUPS;
    const int first = warp / ROW_GROUPS % SEQUENCE_GROUPS * 16 + line;
    if (part >= PARTS) return;
    #pragma unroll
    for (int m = 0; m < TILE_ROWS; ++m)
        #pragma unroll
        for (int e = 0; e < 4; ++e)
            parts[(part * SEQUENCES + first + e / 2 * 8) * ROWS
                  + (m * ROW_GROUPS + group) * 8 + two + e % 2] = sums.of[m][e];
}}
"""

WAITING = f"""
// The blocks of one slice of sequences count here: each once a step, when what it has written can
// be read by the others.
{_HEAD}void arrive(unsigned* count) {{
    __syncthreads();
    if (threadIdx.x == 0) {{
        __threadfence();
        atomicAdd(count, 1u);
    }}
}}

// Waits for the others, or returns true: another one has given up, or has not come for so long that
// it never will.  Then the fault is written down in memory of the host.
{_HEAD}bool missed(unsigned* count, long long target, long long fault, long long ticket) {{
    int given_up = 0;
    if (threadIdx.x == 0) {{
        long long begun = 0;
        unsigned seen = 0;
        while ((seen = *(volatile unsigned*)count) < (unsigned)target) {{
            const long long now = clock64();
            begun = begun ? begun : now;
            if (now - begun > PATIENCE) {{
                atomicOr(count, 0x80000000u);
                volatile long long* said = (volatile long long*)fault;
                said[1] = target;
                __threadfence_system();
                said[0] = ticket;
                seen = 0x80000000u;
                break;
            }}
        }}
        given_up = seen >> 31;
        __threadfence();
    }}
    return __syncthreads_or(given_up);
}}
"""
