// One call of RoIAlign, and the algorithms that can run it. Each is compiled on its own.
#pragma once

#include "common/element.cuh"
#include "common/launch.cuh"
#include "maskrcnn_roi_align/tables.cuh"
#include "multiscale_roi_align/pyramid.cuh"

namespace trtyard {
namespace maskrcnn_roi_align {

// For the matrix units (fragments.cuh).
constexpr int kTile = 16;
constexpr int kFewBins = 8;      // on an axis: both halves of the weights fit into one operand
constexpr int kColumnStep = 8;   // a window begins at a multiple: 16 bytes, the unit of a matrix load

// The window that a roi reads: tiles of rows, and columns in steps of kColumnStep. The image is kPadded also
// for a roi that reads nothing.
struct alignas(16) Window {
    int image, top, left, size;

    __device__ int row_tiles() const { return size & 0xffff; }
    __device__ int column_steps() const { return size >> 16; }
    __device__ int column_tiles() const { return (column_steps() + 1) / 2; }
};

struct FragmentTables {
    Window* windows;   // [rois]
    unsigned* fragments;  // [rois][row_tiles, then column_tiles][words of a warp's fragment]
    int row_tiles, column_tiles;  // the most that a roi can have
};

// Division of numbers below 2^16 by multiplication.
__host__ __device__ inline unsigned inverse_of(unsigned divisor) {
    return divisor > 1u ? 0xffffffffu / divisor + 1u : 0u;  // 2^32 / divisor, rounded up
}
__device__ inline int divide(int value, unsigned inverse) {
    return inverse == 0u ? value
                         : static_cast<int>(__umulhi(static_cast<unsigned>(value), inverse));
}

// The memory layout of features or pooled.
struct Order {
    bool channels_last;
    int pitch;  // channels in memory, with padding; only channels last can have padding
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
    // In the same memory: a call uses one of the two. Null for sizes without tables.
    Tables tables;
    FragmentTables fragments;
    Device device;
    void* stream;
    // The maps of MultiscaleRoIAlign, instead of `features` and the size and scale of its map.
    const Pyramid* pyramid = nullptr;

    // Calls function(const void* features, int height, int width) for each map until it returns false, and
    // returns whether all were true.
    template <typename Function>
    bool for_all_maps(const Function& function) const {
        if (pyramid == nullptr) {
            return function(features, shape.height, shape.width);
        }
        for (int level = 0; level < pyramid->count; ++level) {
            const Pyramid::Map& map = pyramid->maps[level];
            if (!function(map.features, map.height, map.width)) {
                return false;
            }
        }
        return true;
    }

    // Calls function(maps) with a OneMap or a Pyramid.
    template <typename Function>
    int32_t with_maps(const Function& function) const {
        return pyramid == nullptr ? function(OneMap{features}) : function(*pyramid);
    }

    // Whether to compute all rois of some channels before the next channels, so that the cells they read
    // fit into the L2. If all channels fit, writing a roi's results together is faster.
    bool channels_apart() const {
        int64_t cells = 0;
        (void)for_all_maps([&](const void*, int64_t height, int64_t width) {
            cells += height * width;
            return true;
        });
        return static_cast<int64_t>(shape.batch) * features_order.pitch * cells *
                   static_cast<int64_t>(sizeof(T)) >
               device.cache_bytes;
    }

    int32_t make_tables() const {
        return make_tables_of(
            rois, batch_indices, tables, shape, sampling, pyramid, stream);
    }
};

// Not a status: this algorithm cannot run the call, try the next one.
constexpr int32_t kDoesNotFit = 1 << 30;

// Every call: one thread for each output element.
template <typename T>
int32_t run_direct(const Call<T>& call);

// Means of features with channels first whose maps fit into shared memory: float32, and 16-bit types on the
// matrix units.
template <typename T>
int32_t run_resident(const Call<T>& call);

// Means of features of any size with channels first.
template <typename T>
int32_t run_streamed(const Call<T>& call);

// Means of features with channels last.
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
