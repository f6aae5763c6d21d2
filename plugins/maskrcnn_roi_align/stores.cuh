// Copies from a warp's stage in shared memory, [channels][bins], to pooled in device memory.
#pragma once

#include "common/async.cuh"
#include "maskrcnn_roi_align/call.cuh"

namespace trtyard {
namespace maskrcnn_roi_align {

// Bytes of pooled that one task writes, rounded up: a group's channels of one roi.
__host__ __device__ constexpr size_t staged_bytes(int channels, int outputs, int element_size) {
    return (static_cast<size_t>(channels) * outputs * element_size + kBulkAlignment - 1) /
           kBulkAlignment * kBulkAlignment;
}

// Writes `count` elements from shared to global memory, with a bulk copy, which still reads `source` on
// return, or with the warp.
template <bool kBulk, typename T>
__device__ inline void store_task(T* target, const T* source, int count, int lane) {
    const unsigned bytes = static_cast<unsigned>(count) * sizeof(T);
    const bool wide = (reinterpret_cast<uintptr_t>(target) | bytes) % kBulkAlignment == 0;
    if (!wide) {
        for (int i = lane; i < count; i += kWarp) {
            target[i] = source[i];
        }
        return;
    }
    if (kBulk) {
#if TRTYARD_HAS_BULK_COPY
        if (lane == 0) {
            start_bulk_store(target, source, bytes);
        }
#endif
    } else {
        const int vectors = static_cast<int>(bytes / sizeof(uint4));
#pragma unroll 4
        for (int i = lane; i < vectors; i += kWarp) {
            reinterpret_cast<uint4*>(target)[i] = reinterpret_cast<const uint4*>(source)[i];
        }
    }
}

// Writes `count` zeros with plain stores; bulk copies of a block of zeros were slower.
template <typename T>
__device__ inline void store_zeros(T* target, int count, int lane) {
    const unsigned bytes = static_cast<unsigned>(count) * sizeof(T);
    if ((reinterpret_cast<uintptr_t>(target) | bytes) % sizeof(uint4) == 0) {
        for (int i = lane; i < static_cast<int>(bytes / sizeof(uint4)); i += kWarp) {
            reinterpret_cast<uint4*>(target)[i] = make_uint4(0, 0, 0, 0);
        }
    } else {
        for (int i = lane; i < count; i += kWarp) {
            target[i] = from_float<T>(0.0f);
        }
    }
}

// Writes a roi's channels [first, first + count) to pooled with channels last; `target` is the roi's first
// bin.
template <typename T>
__device__ inline void store_channels_last(
    T* target, const T* source, int first, int count, int outputs, int pitch, int lane) {
    const unsigned inverse = inverse_of(count);
    constexpr int kPair = sizeof(T) < sizeof(float) ? 2 : 1;
    const bool pairs =
        kPair == 2 && (count | first | pitch) % 2 == 0 &&
        reinterpret_cast<uintptr_t>(target) % (kPair * sizeof(T)) == 0;
    const int step = pairs ? 2 : 1;
    for (int i = lane * step; i < count * outputs; i += kWarp * step) {
        const int bin = divide(i, inverse);
        const int channel = i - bin * count;
        T* at = target + static_cast<int64_t>(bin) * pitch + first + channel;
        const T* from = source + channel * outputs + bin;
        if (pairs) {
            alignas(unsigned) T both[2] = {from[0], from[outputs]};
            *reinterpret_cast<unsigned*>(at) = *reinterpret_cast<const unsigned*>(both);
        } else {
            *at = from[0];
        }
    }
}

// Writes zeros there.
template <typename T>
__device__ inline void store_zeros_last(
    T* target, int first, int count, int outputs, int pitch, int lane) {
    const unsigned inverse = inverse_of(count);
    for (int i = lane; i < count * outputs; i += kWarp) {
        const int bin = divide(i, inverse);
        target[static_cast<int64_t>(bin) * pitch + first + i - bin * count] = from_float<T>(0.0f);
    }
}

}  // namespace maskrcnn_roi_align
}  // namespace trtyard
