// What a CUDA kernel finds when it is compiled as C++ for the host: each thread is a fibre, and the
// threads of all blocks are there at the same time, so that blocks can wait for each other.
//
// A fibre runs until it waits: at a barrier of its block, for its warp, or for another block (each
// look at the clock).  A schedule says who is next.  If nobody gets any further, that is a deadlock.
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct float4 { float x, y, z, w; };
struct Place { unsigned x, y; };
static Place blockIdx, threadIdx, blockDim, gridDim;

namespace host {

enum State { READY, AT_BARRIER, IN_WARP, SPINNING, DONE };

enum Result { FINE, DEADLOCK, TORN };

struct Fibre {
    ucontext_t context;
    State state;
    Place block, thread;
    unsigned number, vote;
    int barrier;
};

typedef void (*Body)(void**);

static const size_t STACK = 1 << 16;
static const unsigned WARP = 32;

static std::vector<Fibre> fibres;
static std::vector<char*> memories;
static std::vector<float> held;  // of the threads of all warps, what they multiply
static ucontext_t scheduler;
static Fibre* current;
static char* memory;
static long long time_now, time_step;
static Body body;
static void** arguments;
static char* stacks;
static size_t stacks_made;

static void enter() {
    body(arguments);
    current->state = DONE;
    swapcontext(&current->context, &scheduler);
}

static void wait(State state) {
    Fibre* self = current;
    self->state = state;
    swapcontext(&self->context, &scheduler);
}

static int meet(int barrier, int vote) {
    current->barrier = barrier;
    current->vote = vote != 0;
    wait(AT_BARRIER);
    return current->vote;
}

static void resume(Fibre& fibre, unsigned block) {
    current = &fibre;
    blockIdx = fibre.block;
    threadIdx = fibre.thread;
    memory = memories[block];
    swapcontext(&scheduler, &fibre.context);
}

// Lets those go on whose whole block, or whole warp, has come.
static bool release(unsigned first, unsigned threads, Result* result) {
    unsigned there = 0, done = 0, vote = 0;
    int barrier = -1;
    bool released = false;
    for (unsigned k = first; k < first + threads; ++k) {
        Fibre& fibre = fibres[k];
        done += fibre.state == DONE;
        if (fibre.state == AT_BARRIER) {
            // They must all have come to the same one.
            if (barrier >= 0 && barrier != fibre.barrier) *result = TORN;
            barrier = fibre.barrier;
            vote |= fibre.vote;
            ++there;
        }
    }
    if (there && done) *result = TORN;
    if (there == threads) {
        released = true;
        for (unsigned k = first; k < first + threads; ++k) fibres[k].state = READY, fibres[k].vote = vote;
    }
    for (unsigned warp = first; warp < first + threads; warp += WARP) {
        unsigned waiting = 0, last = warp + WARP < first + threads ? warp + WARP : first + threads;
        for (unsigned k = warp; k < last; ++k) waiting += fibres[k].state == IN_WARP;
        if (waiting < last - warp) continue;
        released = true;
        for (unsigned k = warp; k < last; ++k) fibres[k].state = READY;
    }
    return released;
}

// Runs a kernel under a schedule: 0 in order, 1 in reversed order, 2 in an order that rotates, 3 and
// 4 a block as far as it gets before another one, in order and in reversed order, 5 the
// first block as far as it gets, and of the others the first thread before all others.  The clock moves by `step` at each look; after `patience`
// rounds in which nobody got any further, it is a deadlock.
static int run(Body kernel, void** given, unsigned gx, unsigned gy, unsigned threads, unsigned bytes,
               int schedule, long long step, int patience) {
    const unsigned blocks = gx * gy, all = blocks * threads;
    body = kernel, arguments = given, time_now = 0, time_step = step;
    gridDim = {gx, gy}, blockDim = {threads, 1};
    if (stacks_made < all) {
        if (stacks) munmap(stacks, stacks_made * STACK);
        stacks = (char*)mmap(0, all * STACK, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        stacks_made = all;
    }
    // Not a number, until it is written; 64 bytes to spare show who writes past the end.
    const size_t room = (bytes + 64 + 15) / 16 * 16;
    char* shared = (char*)aligned_alloc(16, blocks * room);
    memset(shared, 0xff, blocks * room);
    memories.clear();
    for (unsigned k = 0; k < blocks; ++k) memories.push_back(shared + k * room);
    held.assign((size_t)all * 6, 0);
    fibres.clear();
    fibres.resize(all);
    for (unsigned k = 0; k < all; ++k) {
        Fibre& fibre = fibres[k];
        const unsigned block = k / threads;
        getcontext(&fibre.context);
        fibre.context.uc_stack.ss_sp = stacks + k * STACK;
        fibre.context.uc_stack.ss_size = STACK;
        fibre.context.uc_link = &scheduler;
        makecontext(&fibre.context, enter, 0);
        fibre.state = READY;
        fibre.block = {block % gx, block / gx};
        fibre.thread = {k % threads, 0};
        fibre.number = k;
    }
    Result result = FINE;
    int idle = 0;
    for (unsigned round = 0; result == FINE; ++round) {
        bool further = false, left = false;
        for (unsigned block = 0; schedule == 5 && block < blocks; ++block) {
            Fibre& fibre = fibres[block * threads];
            const bool spins = fibre.state == SPINNING;
            if (fibre.state != READY && !spins) continue;
            resume(fibre, block);
            if (!(spins && fibre.state == SPINNING)) further = true;
        }
        for (unsigned turn = 0; turn < blocks; ++turn) {
            const bool back = schedule == 1 || schedule == 4;
            const unsigned block = schedule == 2 ? (turn + round) % blocks : back ? blocks - 1 - turn : turn;
            const unsigned first = block * threads;
            bool again, spun = false;
            do {
                again = false;
                for (unsigned k = 0; k < threads; ++k) {
                    const unsigned t = schedule == 2 ? (k + 7 * round) % threads : back ? threads - 1 - k : k;
                    Fibre& fibre = fibres[first + t];
                    if (fibre.state == DONE) continue;
                    left = true;
                    const bool spins = fibre.state == SPINNING;
                    if (fibre.state != READY && !(spins && !spun)) continue;
                    resume(fibre, block);
                    if (!(spins && fibre.state == SPINNING)) further = true, again = true;
                }
                spun = true;
                if (release(first, threads, &result)) further = again = true;
            } while (again && (schedule == 3 || schedule == 4 || (schedule == 5 && !turn)) && result == FINE);
        }
        if (!left) break;
        idle = further ? 0 : idle + 1;
        if (idle > patience) result = DEADLOCK;
    }
    for (unsigned k = 0; k < blocks && result == FINE; ++k)
        for (size_t c = bytes; c < bytes + 64; ++c)
            if (memories[k][c] != (char)0xff) result = TORN;
    free(shared);
    return result;
}

static void multiply_add(float (&c)[4], float a0, float a1, float a2, float a3, float b0, float b1) {
    const unsigned lane = threadIdx.x % WARP;
    float* warp = &held[(current->number - lane) * 6];
    const float mine[6] = {a0, a1, a2, a3, b0, b1};
    memcpy(warp + lane * 6, mine, sizeof mine);
    wait(IN_WARP);
    // Where the device's instruction has which number: PTX ISA, "Matrix fragments for mma.m16n8k8".
    for (int e = 0; e < 4; ++e) {
        const int row = lane / 4 + e / 2 * 8, column = lane % 4 * 2 + e % 2;
        float sum = c[e];
        for (int k = 0; k < 8; ++k) {
            const float a = warp[(row % 8 * 4 + k % 4) * 6 + row / 8 + k / 4 * 2];
            sum += a * warp[(column * 4 + k % 4) * 6 + 4 + k / 4];
        }
        c[e] = sum;
    }
    wait(IN_WARP);
}

}  // namespace host

static inline void __syncthreads() { host::meet(0, 0); }
static inline int __syncthreads_or(int vote) { return host::meet(1, vote); }
static inline void __threadfence() {}
static inline void __threadfence_system() {}
template <class T> static inline T __ldcg(const T* p) { return *p; }
static inline unsigned atomicAdd(unsigned* p, unsigned x) { return *p += x, *p - x; }
static inline unsigned atomicOr(unsigned* p, unsigned x) { const unsigned was = *p; *p |= x; return was; }
static inline long long clock64() {
    host::time_now += host::time_step;
    host::wait(host::SPINNING);
    return host::time_now;
}
