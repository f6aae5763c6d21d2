// Sorting by bins. A block distributes its keys by score over more bins than there are keys, then compares a
// key with the keys of its own bin only. Unlike a merge of runs, the number of barriers does not grow with the
// number of keys.
#pragma once

#include "padded_nms/keys.cuh"

namespace trtyard {
namespace padded_nms {

// With more keys in one bin, such as many equal scores, merging is faster than comparing all of them.
constexpr int kMostInBin = 48;

constexpr int kBinsPerKey = 2;

struct BinScratch {
    unsigned lowest[kWarp], highest[kWarp];  // of a warp's scores
    int keys[kWarp], fullest[kWarp];         // of a warp's bins
};

__device__ inline unsigned warp_min(unsigned value) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    return __reduce_min_sync(kFullWarp, value);
#else
    for (int step = kWarp / 2; step > 0; step /= 2) {
        value = min(value, __shfl_xor_sync(kFullWarp, value, step));
    }
    return value;
#endif
}

__device__ inline unsigned warp_max(unsigned value) { return ~warp_min(~value); }

// The sum of `value` over this lane and those before it.
__device__ inline int warp_prefix(int value, int lane) {
#pragma unroll
    for (int step = 1; step < kWarp; step *= 2) {
        const int before = __shfl_up_sync(kFullWarp, value, step);
        value += lane >= step ? before : 0;
    }
    return value;
}

// Finds the positions of the block's keys in ascending order. A thread holds kItems keys in any order, kNoKey
// for a missing one. `binned` has room for the block's keys, `starts` for kBinsPerKey ints for each possible
// key. `count` becomes the number of keys. Returns false to every thread if one bin has too many keys; there
// are no positions then. Ends without a barrier: other threads may still read `binned` and `starts`.
template <int kItems>
__device__ bool place_in_bins(
    const Key (&keys)[kItems], int (&places)[kItems], Key* binned, int* starts,
    BinScratch& scratch, int& count) {
    constexpr int kOwn = kBinsPerKey * kItems;  // bins of a thread
    const int thread = static_cast<int>(threadIdx.x);
    const int threads = static_cast<int>(blockDim.x);
    const int lane = thread % kWarp;
    const int warp = thread / kWarp;
    const bool is_warp = lane < threads / kWarp;
    const unsigned bins = static_cast<unsigned>(kOwn * threads);

    unsigned low = ~0u;
    unsigned high = 0u;
#pragma unroll
    for (int k = 0; k < kItems; ++k) {
        const unsigned score = static_cast<unsigned>(keys[k] >> 32);
        if (keys[k] != kNoKey) {
            low = min(low, score);
            high = max(high, score);
        }
    }
#pragma unroll
    for (int k = 0; k < kOwn; ++k) {
        starts[thread + k * threads] = 0;
    }
    low = warp_min(low);
    high = warp_max(high);
    if (lane == 0) {
        scratch.lowest[warp] = low;
        scratch.highest[warp] = high;
    }
    __syncthreads();
    low = warp_min(is_warp ? scratch.lowest[lane] : ~0u);
    high = warp_max(is_warp ? scratch.highest[lane] : 0u);

    // Grows with the score. The factor is rounded down, so that the highest score stays in the last bin.
    const unsigned range = high - low;
    const float exact = static_cast<float>(bins) * 4294967296.0f / static_cast<float>(range);
    const unsigned factor = range < bins ? 0u : __float2uint_rz(exact * 0.999999f);
    unsigned bin[kItems];
    int slot[kItems];
#pragma unroll
    for (int k = 0; k < kItems; ++k) {
        const unsigned above = static_cast<unsigned>(keys[k] >> 32) - low;
        bin[k] = range < bins ? above : __umulhi(above, factor);
        slot[k] = keys[k] == kNoKey ? 0 : atomicAdd(&starts[bin[k]], 1);
    }
    __syncthreads();

    int own[kOwn];
    int sum = 0;
    unsigned fullest = 0u;
#pragma unroll
    for (int k = 0; k < kOwn; ++k) {
        own[k] = starts[thread * kOwn + k];
        sum += own[k];
        fullest = max(fullest, static_cast<unsigned>(own[k]));
    }
    const int prefix = warp_prefix(sum, lane);
    fullest = warp_max(fullest);
    if (lane == kWarp - 1) {
        scratch.keys[warp] = prefix;
        scratch.fullest[warp] = static_cast<int>(fullest);
    }
    __syncthreads();
    const int of_warp = is_warp ? scratch.keys[lane] : 0;
    fullest = warp_max(is_warp ? static_cast<unsigned>(scratch.fullest[lane]) : 0u);
    const int of_warps = warp_prefix(of_warp, lane);
    count = __shfl_sync(kFullWarp, of_warps, kWarp - 1);
    int start = __shfl_sync(kFullWarp, of_warps - of_warp, warp) + prefix - sum;
    if (fullest > static_cast<unsigned>(kMostInBin)) {
        return false;
    }
#pragma unroll
    for (int k = 0; k < kOwn; ++k) {
        starts[thread * kOwn + k] = start;
        start += own[k];
    }
    __syncthreads();

    int first[kItems];
#pragma unroll
    for (int k = 0; k < kItems; ++k) {
        if (keys[k] != kNoKey) {
            first[k] = starts[bin[k]];
            binned[first[k] + slot[k]] = keys[k];
        }
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kItems; ++k) {
        places[k] = 0;
        if (keys[k] != kNoKey) {
            const int end = bin[k] + 1 < bins ? starts[bin[k] + 1] : count;
            places[k] = first[k];
            for (int i = first[k]; i < end; ++i) {
                places[k] += binned[i] < keys[k] ? 1 : 0;
            }
        }
    }
    return true;
}

}  // namespace padded_nms
}  // namespace trtyard
