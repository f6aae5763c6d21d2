// Keys that carry a score and an index, and their order.
//
// A key has 64 bits. The upper half is the score, mapped so that a better score is a smaller number; the lower
// half is the flat index class * boxes_per_class + box. Keys are distinct, and their order is the op's order
// with its ties, so every step is deterministic.
#pragma once

#include "common/element.cuh"

namespace trtyard {
namespace padded_nms {

using Key = unsigned long long;

constexpr Key kNoKey = ~Key{0};  // sorts after every real key: no score maps to all ones

constexpr int kWarp = 32;
constexpr unsigned kFullWarp = 0xffffffffu;

constexpr int kMinTile = 2 * kWarp;
constexpr int kMaxTile = 2048;      // the most boxes of a segment for one block
constexpr int kSortThreads = 1024;  // the most; kMaxTile / 2

__device__ inline Key make_key(float score, int index) {
    const float canonical = score == 0.0f ? 0.0f : score;  // -0.0 ties with 0.0
    const unsigned bits = __float_as_uint(canonical);
    const unsigned ascending = (bits >> 31) != 0u ? ~bits : bits | 0x80000000u;
    return (static_cast<Key>(~ascending) << 32) | static_cast<unsigned>(index);
}

__device__ inline int index_of(Key key) { return static_cast<int>(key & 0xffffffffu); }

// Returns how many of the `count` ascending keys of `run` are below `key`.
__device__ inline int lower_bound(const Key* run, int count, Key key) {
    int low = 0;
    while (count > 0) {
        const int half = count / 2;
        if (run[low + half] < key) {
            low += half + 1;
            count -= half + 1;
        } else {
            count = half;
        }
    }
    return low;
}

// Returns the position of `key` in a sorted run of `length` keys, a power of two: how many are below it, or,
// with `equal_too`, not above it.
__device__ inline int place_in_run(const Key* run, int length, Key key, bool equal_too) {
    int below = 0;
    for (int step = length; step > 0; step /= 2) {
        if (below + step <= length) {
            const Key other = run[below + step - 1];
            if (other < key || (equal_too && other == key)) {
                below += step;
            }
        }
    }
    return below;
}

// Sorts `size` keys (a power of two, at least 32) in ascending order with a whole block. A thread holds the
// kItems keys threadIdx.x + k * blockDim.x, with kItems * blockDim.x >= size. Each warp sorts 32 keys with a
// bitonic network. Then pairs of runs are merged: a key's new position is its position in its own run plus the
// one in the other run. `buffer` has room for 2 * size keys; `sorted` has the result after the next barrier.
template <int kItems>
__device__ void sort_block(Key (&keys)[kItems], Key* buffer, int size, Key* sorted) {
    const int thread = static_cast<int>(threadIdx.x);
    const int threads = static_cast<int>(blockDim.x);
    const int lane = thread % kWarp;
#pragma unroll
    for (int run = 2; run <= kWarp; run *= 2) {
#pragma unroll
        for (int stride = run / 2; stride > 0; stride /= 2) {
            const bool smaller = ((lane & run) == 0 || run == kWarp) == ((lane & stride) == 0);
#pragma unroll
            for (int k = 0; k < kItems; ++k) {
                const Key other = __shfl_xor_sync(kFullWarp, keys[k], stride);
                keys[k] = (other < keys[k]) == smaller ? other : keys[k];
            }
        }
    }
    Key* from = buffer;
    Key* to = buffer + size;
#pragma unroll
    for (int k = 0; k < kItems; ++k) {
        if (thread + k * threads < size) {
            from[thread + k * threads] = keys[k];
        }
    }
    __syncthreads();
    for (int run = kWarp; run < size; run *= 2) {
#pragma unroll
        for (int k = 0; k < kItems; ++k) {
            const int item = thread + k * threads;
            if (item < size) {
                const bool second = (item & run) != 0;  // of the pair; it comes after equal keys
                const int place = place_in_run(from + (item & ~(run - 1) ^ run), run, keys[k], second);
                to[(item & ~run) + place] = keys[k];
            }
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < kItems; ++k) {
            if (thread + k * threads < size) {
                keys[k] = to[thread + k * threads];
            }
        }
        Key* const other = from;
        from = to;
        to = other;
    }
    __syncthreads();  // `sorted` may be inside `buffer`
#pragma unroll
    for (int k = 0; k < kItems; ++k) {
        const int item = thread + k * threads;
        if (item < size) {
            sorted[item] = keys[k];
        }
    }
}

// Returns the smallest power of two that is at least `count` and the size of a warp.
__host__ __device__ inline int padded_size(int count) {
    int size = kWarp;
    while (size < count) {
        size *= 2;
    }
    return size;
}

}  // namespace padded_nms
}  // namespace trtyard
