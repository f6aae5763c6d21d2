// One call of RoIAlign, and the ways to run it. Each way is compiled by itself.
#pragma once

#include "common/element.cuh"
#include "common/launch.cuh"
#include "maskrcnn_roi_align/tables.cuh"

namespace trtyard {
namespace maskrcnn_roi_align {

// For the matrix units (fragments.cuh).
constexpr int kTile = 16;
constexpr int kFewBins = 8;      // an axis: both halves of the weights fit in one operand
constexpr int kColumnStep = 8;   // a window begins at a multiple: 16 bytes, what a matrix load takes

// Where a roi reads: tiles of rows, and columns by kColumnStep. The image is kPadded also for one that
// reads nothing.
struct alignas(16) Window {
    int image, top, left, size;

    __device__ int row_tiles() const { return size & 0xffff; }
    __device__ int column_steps() const { return size >> 16; }
    __device__ int column_tiles() const { return (column_steps() + 1) / 2; }
};

struct FragmentTables {
    Window* windows;   // [rois]
    unsigned* fragments;  // [rois][row_tiles, then column_tiles][words of a warp's fragment]
    int row_tiles, column_tiles;  // at most
};

// Quotients of numbers below 2^16 by a product.
__host__ __device__ inline unsigned inverse_of(unsigned divisor) {
    return divisor > 1u ? 0xffffffffu / divisor + 1u : 0u;  // 2^32 over it, rounded up
}
__device__ inline int divide(int value, unsigned inverse) {
    return inverse == 0u ? value
                         : static_cast<int>(__umulhi(static_cast<unsigned>(value), inverse));
}

// How features or pooled lie in memory.
struct Order {
    bool channels_last;
    int pitch;  // channels there are in memory; more than the tensor's only where channels are last
};

template <typename T>
struct Call {
    const T* features;
    const float* rois;
    const int32_t* batch_indices;
    T* pooled;
    Shape shape;
    Sampling sampling;
    bool maximum;
    Order features_order, pooled_order;
    // In the same memory: a call makes one or the other. None (null) for sizes without.
    Tables tables;
    FragmentTables fragments;
    Device device;
    void* stream;

    // Whether the rois of some channels should come before those of others: what they read then has
    // room in the L2. Where all channels have, a roi's results are better written together.
    bool channels_apart() const {
        return static_cast<int64_t>(shape.batch) * features_order.pitch * shape.height *
                   shape.width * static_cast<int64_t>(sizeof(T)) >
               device.cache_bytes;
    }

    int32_t make_tables() const {
        return make_tables_of(rois, batch_indices, tables, shape, sampling, stream);
    }
};

// No status: what is asked does not fit this way, take the next.
constexpr int32_t kDoesNotFit = 1 << 30;

// Anything: one thread an output element.
template <typename T>
int32_t run_direct(const Call<T>& call);

// Means, of features whose maps fit in shared memory, channels first: float32, and on the matrix units
// 16 bits.
template <typename T>
int32_t run_resident(const Call<T>& call);

// Means, of features of any size, channels first.
template <typename T>
int32_t run_streamed(const Call<T>& call);

// Means, of features with their channels last.
template <typename T>
int32_t run_channels_last(const Call<T>& call);

#if CUDART_VERSION >= 11000
#define TRTYARD_FOR_EACH_TYPE(INSTANTIATE) \
    INSTANTIATE(float)                     \
    INSTANTIATE(__half)                    \
    INSTANTIATE(__nv_bfloat16)
#else
#define TRTYARD_FOR_EACH_TYPE(INSTANTIATE) \
    INSTANTIATE(float)                     \
    INSTANTIATE(__half)
#endif

}  // namespace maskrcnn_roi_align
}  // namespace trtyard
