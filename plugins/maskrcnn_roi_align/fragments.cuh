// A roi's weights as operands of the matrix units, for 16-bit features.
//
// pooled = Wy * F * Wx^T. The map is divided into tiles of 16 rows and 16 columns. For each tile of an axis a
// roi has the weights of its bins on those 16 cells, in the layout of the registers (PTX ISA, mma.m16n8k16).
#pragma once

#include "maskrcnn_roi_align/call.cuh"

namespace trtyard {
namespace maskrcnn_roi_align {

constexpr int kFragmentThreads = 64;  // of a block: small, so that it runs next to a block of the next kernel

// How many 16-bit numbers add up to a weight. For float16 one is enough, rounded so that the sum of a bin's
// weights is unchanged: a constant map pools to the constant. Bfloat16 has two if they fit into one operand;
// with more bins they would double the products.
template <bool kFew, typename T>
struct WeightParts {
    static constexpr int kCount = kFew ? 2 : 1;
};
template <bool kFew>
struct WeightParts<kFew, __half> {
    static constexpr int kCount = 1;
};

// A lane's part of the weights of one tile and axis. With g = lane / 4 and c = lane % 4 * 2, for the cells c
// and c + 1. Up to 8 bins: {high(g, c), low(g, c), high(g, c + 8), low(g, c + 8)}; the low parts are zeros if
// a weight has one part, so the loaded fragment is an operand. More bins: the high parts
// {(g, c), (g + 8, c), (g, c + 8), (g + 8, c + 8)}, then the low parts.
template <bool kFew, typename T>
struct Fragment {
    static constexpr int kParts = WeightParts<kFew, T>::kCount;
    static constexpr int kVectors = kFew ? 1 : kParts;
    static constexpr int kWords = 4 * kVectors;
    uint4 vector[kVectors];
};

template <bool kFew, typename T>
__host__ __device__ inline unsigned* fragment_of(
    const FragmentTables& tables, int64_t roi, int tile) {
    const int64_t index = roi * (tables.row_tiles + tables.column_tiles) + tile;
    return tables.fragments + index * Fragment<kFew, T>::kWords * kWarp;
}

template <bool kFew, typename T>
__device__ inline Fragment<kFew, T> load_fragment(const unsigned* source, int lane) {
    using F = Fragment<kFew, T>;
    F fragment;
#pragma unroll
    for (int i = 0; i < F::kVectors; ++i) {
        fragment.vector[i] = reinterpret_cast<const uint4*>(source)[i * kWarp + lane];
    }
    return fragment;
}

// The bin of row or column `index` of an operand. Indices after the last bin repeat a bin (for an even count
// the last two in turn), so that a lane can always store its results, also in pairs.
__device__ inline int bin_of(int index, int bins) {
    return index < bins ? index : bins % 2 == 0 ? bins - 2 + index % 2 : bins - 1;
}

template <typename T>
struct Pair;
template <>
struct Pair<__half> {
    static __device__ unsigned pack(float low, float high) {
        const __half2 both = __floats2half2_rn(low, high);
        return *reinterpret_cast<const unsigned*>(&both);
    }
};
#if CUDART_VERSION >= 11000
template <>
struct Pair<__nv_bfloat16> {
    static __device__ unsigned pack(float low, float high) {
        return bits(low) | bits(high) << 16;
    }
    // Not __bfloat16_as_ushort: with CUDA 11 the host compiler does not know it.
    static __device__ unsigned bits(float value) {
        const __nv_bfloat16 rounded = __float2bfloat16_rn(value);
        return *reinterpret_cast<const unsigned short*>(&rounded);
    }
};
#endif

// Two neighbouring weights: their high parts, or the rest.
template <typename T>
__device__ inline unsigned part_of(const float* weights, bool low) {
    const float a = weights[0];
    const float b = weights[1];
    return low ? Pair<T>::pack(a - to_float(from_float<T>(a)), b - to_float(from_float<T>(b)))
               : Pair<T>::pack(a, b);
}

// One warp for each roi, half of it for each axis; a lane is a row or column of the operand.
template <bool kFew, typename T>
__global__ void __launch_bounds__(kFragmentThreads) make_fragments(
    const float* rois, const int* batch_indices, FragmentTables tables, Shape shape,
    Sampling sampling) {
    __shared__ float shared[kFragmentThreads / kWarp][kWarp][kTile + 1];
    let_next_kernel_start();
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const int roi = static_cast<int>(
        (static_cast<int64_t>(blockIdx.x) * kFragmentThreads + threadIdx.x) / kWarp);
    if (roi >= shape.rois) {
        return;
    }
    const bool vertical = lane >= kMaxBins;
    const int size = vertical ? shape.height : shape.width;
    const int bin =
        bin_of(lane % kMaxBins, vertical ? shape.output_height : shape.output_width);
    const int image = batch_indices[roi];
    const float* corners = rois + static_cast<int64_t>(roi) * 4;
    const Axis axis = make_roi_axis(corners, vertical, shape, sampling);
    const bool alive = !is_padding(image, corners, shape, sampling);
    Range range{0, 0};
    int first = kNoRow;
    int end = 0;
    if (alive) {
        range = inside(axis, bin, size);
        if (range.first < range.end) {
            const int one = make_tap(sample(axis, bin, range.first), size).low;
            const int other = make_tap(sample(axis, bin, range.end - 1), size).low;
            first = min(one, other);
            end = min(max(one, other) + 2, size);
        }
    }
#pragma unroll
    for (int step = kMaxBins / 2; step > 0; step /= 2) {
        first = min(first, __shfl_xor_sync(kFullWarp, first, step));
        end = max(end, __shfl_xor_sync(kFullWarp, end, step));
    }
    first = vertical ? first : first / kColumnStep * kColumnStep;
    const int left = __shfl_sync(kFullWarp, first, 0);
    const int right = __shfl_sync(kFullWarp, end, 0);
    const int top = __shfl_sync(kFullWarp, first, kMaxBins);
    const int bottom = __shfl_sync(kFullWarp, end, kMaxBins);
    const bool reads = left < right && top < bottom;
    const int row_tiles = reads ? (bottom - top + kTile - 1) / kTile : 0;
    const int column_steps = reads ? (right - left + kColumnStep - 1) / kColumnStep : 0;
    const int column_tiles = (column_steps + 1) / 2;
    if (lane == 0) {
        tables.windows[roi] = {reads ? image : kPadded, top, left, row_tiles | column_steps << 16};
    }

    // Samples outside the map count in the mean with the value zero.
    const float share = __fdiv_rn(1.0f, static_cast<float>(max(1, axis.samples)));
    float(*weights)[kTile + 1] = shared[threadIdx.x / kWarp];
    float left_over = 0.0f;  // rounding error of the bin's weights so far
    for (int tile = 0; tile < max(row_tiles, column_tiles); ++tile) {
        float* own = weights[lane];
#pragma unroll
        for (int k = 0; k < kTile; ++k) {
            own[k] = 0.0f;
        }
        const int begin = first + tile * kTile;
        for (int i = range.first; i < range.end; ++i) {
            const Tap tap = make_tap(sample(axis, bin, i), size);
            const int low = tap.low - begin;
            const int high = tap.high - begin;
            if (low >= 0 && low < kTile) {
                own[low] += tap.weight_low * share;
            }
            if (high >= 0 && high < kTile) {
                own[high] += tap.weight_high * share;
            }
        }
        if (WeightParts<kFew, T>::kCount == 1) {
#pragma unroll
            for (int k = 0; k < kTile; ++k) {
                if (own[k] != 0.0f) {
                    const float wanted = own[k] + left_over;
                    own[k] = to_float(from_float<T>(wanted));
                    left_over = wanted - own[k];
                }
            }
        }
        __syncwarp();
        const int cell = lane % 4 * 2;
#pragma unroll
        for (int across = 0; across < 2; ++across) {
            if (tile < (across ? column_tiles : row_tiles)) {
                const float* of_bin = weights[(across ? 0 : kMaxBins) + lane / 4] + cell;
                using F = Fragment<kFew, T>;
                uint4* out = reinterpret_cast<uint4*>(
                    fragment_of<kFew, T>(tables, roi, across ? tables.row_tiles + tile : tile));
                if (kFew) {
                    out[lane] = make_uint4(
                        part_of<T>(of_bin, false), part_of<T>(of_bin, true),
                        part_of<T>(of_bin + 8, false), part_of<T>(of_bin + 8, true));
                } else {
                    const float* of_later = of_bin + kFewBins * (kTile + 1);
#pragma unroll
                    for (int low = 0; low < F::kVectors; ++low) {
                        out[low * kWarp + lane] = make_uint4(
                            part_of<T>(of_bin, low != 0), part_of<T>(of_later, low != 0),
                            part_of<T>(of_bin + 8, low != 0), part_of<T>(of_later + 8, low != 0));
                    }
                }
            }
        }
        __syncwarp();
    }
}

}  // namespace maskrcnn_roi_align
}  // namespace trtyard
