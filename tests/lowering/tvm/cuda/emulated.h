// CUDA C on a CPU: the threads of a block take turns, each going on until it waits for the others. A block after the other.
//
// Law: whoever waits at __syncthreads waits for all of the block that have not ended, at one and the same place, or the program
// ends with a complaint. What is shared is filled with NaN before each block, so that nothing is found there by luck.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

struct irc_extents {
    int x, y, z;
};

static irc_extents threadIdx, blockIdx, blockDim, gridDim;

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ __attribute__((section("irc_shared"))) static

template <typename T> struct alignas(2 * sizeof(T)) irc_2 { T x, y; };
template <typename T> struct irc_3 { T x, y, z; };
template <typename T> struct alignas(4 * sizeof(T)) irc_4 { T x, y, z, w; };
#define IRC_VECTORS(name, type)                                                                      \
    typedef irc_2<type> name##2;                                                                     \
    typedef irc_3<type> name##3;                                                                     \
    typedef irc_4<type> name##4;                                                                     \
    static inline name##2 make_##name##2(type x, type y) { return {x, y}; }                          \
    static inline name##3 make_##name##3(type x, type y, type z) { return {x, y, z}; }               \
    static inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
IRC_VECTORS(float, float)
IRC_VECTORS(double, double)
IRC_VECTORS(int, int)
IRC_VECTORS(uint, unsigned)
IRC_VECTORS(short, short)
IRC_VECTORS(ushort, unsigned short)
IRC_VECTORS(char, signed char)
IRC_VECTORS(uchar, unsigned char)
IRC_VECTORS(longlong, long long)

template <typename To, typename From> static inline To irc_bits(From from) {
    To to;
    static_assert(sizeof to == sizeof from, "the same bits");
    memcpy(&to, &from, sizeof to);
    return to;
}
static inline float __int_as_float(int bits) { return irc_bits<float>(bits); }
static inline int __float_as_int(float value) { return irc_bits<int>(value); }
static inline double __longlong_as_double(long long bits) { return irc_bits<double>(bits); }
static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }

enum irc_state { READY, AT_WARP, AT_BLOCK, ENDED };

struct irc_thread {
    ucontext_t context;
    irc_state state;
    int line;
    irc_extents index;
    std::vector<char> stack;
    uint64_t given;
};

static std::vector<irc_thread> irc_threads;
static ucontext_t irc_scheduler;
static size_t irc_current;
static std::pair<void (*)(void **), void **> irc_work;

static void irc_wait(irc_state state, int line) {
    irc_thread &own = irc_threads[irc_current];
    own.state = state;
    own.line = line;
    swapcontext(&own.context, &irc_scheduler);
}

#define __syncthreads() irc_wait(AT_BLOCK, __LINE__)
#define __syncwarp(...) irc_wait(AT_WARP, __LINE__)
#define __activemask() 0xffffffffu

// The value that another lane of the same warp gives: all give, then all take, then all go on.
template <typename T> static T irc_exchanged(T value, int lane, int width, int line) {
    const size_t own = irc_current, first = own / 32 * 32, segment = own % 32 / width * width;
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    irc_threads[own].given = bits;
    irc_wait(AT_WARP, line);
    const bool inside = lane >= (int)segment && lane < (int)segment + width && first + lane < irc_threads.size();
    T taken = value;
    if (inside) memcpy(&taken, &irc_threads[first + lane].given, sizeof taken);
    irc_wait(AT_WARP, line);
    return taken;
}
#define IRC_LANE ((int)(irc_current % 32))
#define __shfl_sync(mask, value, lane, width) irc_exchanged(value, IRC_LANE / (width) * (width) + (lane), width, __LINE__)
#define __shfl_down_sync(mask, value, by, width) irc_exchanged(value, IRC_LANE + (by), width, __LINE__)
#define __shfl_up_sync(mask, value, by, width) irc_exchanged(value, IRC_LANE - (by), width, __LINE__)
#define __shfl_xor_sync(mask, value, by, width) irc_exchanged(value, IRC_LANE ^ (by), width, __LINE__)

static void irc_start(void) {
    irc_work.first(irc_work.second);
    irc_threads[irc_current].state = ENDED;
    swapcontext(&irc_threads[irc_current].context, &irc_scheduler);
}

extern char __start_irc_shared[] __attribute__((weak)), __stop_irc_shared[] __attribute__((weak));

static bool irc_released(void) {
    bool any = false, all = true;
    int line = -1;
    for (irc_thread &each : irc_threads)
        if (each.state == AT_WARP) each.state = READY, any = true;
    if (any) return true;
    for (irc_thread &each : irc_threads) {
        if (each.state != AT_BLOCK) continue;
        any = true;
        all = all && (line < 0 || line == each.line);
        line = each.line;
        each.state = READY;
    }
    if (!all) fprintf(stderr, "threads of one block wait at two places\n"), abort();
    return any;
}

static void irc_block(bool backwards) {
    if (__start_irc_shared) memset(__start_irc_shared, 0xff, __stop_irc_shared - __start_irc_shared);
    const size_t count = (size_t)blockDim.x * blockDim.y * blockDim.z;
    irc_threads.resize(count);
    for (size_t i = 0; i < count; ++i) {
        irc_thread &each = irc_threads[i];
        each.stack.resize(1 << 16);
        each.state = READY;
        each.index = {(int)(i % blockDim.x), (int)(i / blockDim.x % blockDim.y), (int)(i / blockDim.x / blockDim.y)};
        getcontext(&each.context);
        each.context.uc_stack.ss_sp = each.stack.data();
        each.context.uc_stack.ss_size = each.stack.size();
        each.context.uc_link = nullptr;
        makecontext(&each.context, irc_start, 0);
    }
    do {
        for (size_t i = 0; i < count; ++i) {
            irc_current = backwards ? count - 1 - i : i;
            if (irc_threads[irc_current].state != READY) continue;
            threadIdx = irc_threads[irc_current].index;
            swapcontext(&irc_scheduler, &irc_threads[irc_current].context);
        }
    } while (irc_released());
}

static void irc_launch(void (*kernel)(void **), void **arguments, const unsigned *extents, bool backwards) {
    gridDim = {(int)extents[0], (int)extents[1], (int)extents[2]};
    blockDim = {(int)extents[3], (int)extents[4], (int)extents[5]};
    irc_work = {kernel, arguments};
    const int count = gridDim.x * gridDim.y * gridDim.z;
    for (int i = 0; i < count; ++i) {
        const int block = backwards ? count - 1 - i : i;
        blockIdx = {block % gridDim.x, block / gridDim.x % gridDim.y, block / gridDim.x / gridDim.y};
        irc_block(backwards);
    }
}

template <typename... A, size_t... I>
static void irc_apply(void (*kernel)(A...), void **arguments, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_reference_t<A> *>(arguments[I])...);
}
template <typename... A> static void irc_call(void (*kernel)(A...), void **arguments) {
    irc_apply(kernel, arguments, std::index_sequence_for<A...>{});
}
#define IRC_KERNEL(name)                                                                             \
    extern "C" void launch_##name(void **arguments, const unsigned *extents, int backwards) {        \
        irc_launch([](void **given) { irc_call(name, given); }, arguments, extents, backwards);      \
    }

#define alignas(bytes) __attribute__((aligned(bytes)))  // which may stand where kernels have it
