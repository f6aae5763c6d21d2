// One tile of the map on the matrix units: loads, Wy times the cells, the result times Wx^T, and the layout of
// the result in a warp. The layouts are those of the PTX ISA (mma.m16n8k16, ldmatrix).
#pragma once

#include "maskrcnn_roi_align/fragments.cuh"

namespace trtyard {
namespace maskrcnn_roi_align {

template <bool kFew>
struct Batch {
    static constexpr int kChannels = kFew ? 4 : 2;  // at once, for enough independent products
};

template <typename T>
struct MatrixUnit;

// add: d += a * b, with 16 x 16 and 16 x 8 elements.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
#define TRTYARD_MATRIX_UNIT(T, NAME)                                                              \
    template <>                                                                                   \
    struct MatrixUnit<T> {                                                                        \
        static __device__ void add(float (&d)[4], const uint4& a, unsigned b0, unsigned b1) {     \
            asm("mma.sync.aligned.m16n8k16.row.col.f32." NAME "." NAME ".f32 {%0, %1, %2, %3}, "  \
                "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                                   \
                : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                  \
                : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));                      \
        }                                                                                         \
    };
#else
#define TRTYARD_MATRIX_UNIT(T, NAME)                                                              \
    template <>                                                                                   \
    struct MatrixUnit<T> {                                                                        \
        static __device__ void add(float (&)[4], const uint4&, unsigned, unsigned) {}             \
    };
#endif
TRTYARD_MATRIX_UNIT(__half, "f16")
#if CUDART_VERSION >= 11000
TRTYARD_MATRIX_UNIT(__nv_bfloat16, "bf16")
#endif
#undef TRTYARD_MATRIX_UNIT

// Loads four 8 x 8 blocks, transposed; each lane passes the address of a row.
__device__ inline uint4 load_cells(unsigned address) {
    uint4 cells = make_uint4(0, 0, 0, 0);
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(cells.x), "=r"(cells.y), "=r"(cells.z), "=r"(cells.w)
                 : "r"(address));
#else
    (void)address;
#endif
    return cells;
}

// Wy times the 16 x 16 cells at `address` for each channel of the batch; the left 16 x 8 with kSteps 1.
template <bool kFew, int kSteps, typename T>
__device__ inline void add_rows(
    float (&sums)[Batch<kFew>::kChannels][2][4], unsigned address, unsigned channel_bytes,
    const Fragment<kFew, T>& weights) {
    uint4 cells[Batch<kFew>::kChannels];
#pragma unroll
    for (int j = 0; j < Batch<kFew>::kChannels; ++j) {
        cells[j] = load_cells(address + j * channel_bytes);
    }
#pragma unroll
    for (int part = 0; part < Fragment<kFew, T>::kVectors; ++part) {
#pragma unroll
        for (int j = 0; j < Batch<kFew>::kChannels; ++j) {
            MatrixUnit<T>::add(sums[j][0], weights.vector[part], cells[j].x, cells[j].y);
            if (kSteps > 1) {
                MatrixUnit<T>::add(sums[j][1], weights.vector[part], cells[j].z, cells[j].w);
            }
        }
    }
}

// The pooled batch in a warp: with few bins two channels each, else the left and right of a channel.
template <bool kFew>
using Pooled = float[2][kFew ? 1 : 2][4];

// The rows' sums times Wx^T.
template <bool kFew, typename T>
__device__ inline void add_columns(
    Pooled<kFew>& pooled, const float (&sums)[Batch<kFew>::kChannels][2][4],
    const Fragment<kFew, T>& weights) {
    using F = Fragment<kFew, T>;
#pragma unroll
    for (int j = 0; j < 2; ++j) {
        if (kFew) {  // a channel is one half of the operand; two sums for high and low parts
            unsigned halves[2][2];
#pragma unroll
            for (int channel = 0; channel < 2; ++channel) {
#pragma unroll
                for (int side = 0; side < 2; ++side) {
                    const float(&own)[4] = sums[(j * 2 + channel) % Batch<kFew>::kChannels][side];
                    halves[channel][side] =
                        F::kParts > 1 ? Pair<T>::pack(own[0] + own[2], own[1] + own[3])
                                      : Pair<T>::pack(own[0], own[1]);
                }
            }
            const uint4 operand =
                make_uint4(halves[0][0], halves[1][0], halves[0][1], halves[1][1]);
            const uint4& w = weights.vector[0];
            MatrixUnit<T>::add(pooled[j][0], operand, w.x, w.z);
            if (F::kParts > 1) {
                MatrixUnit<T>::add(pooled[j][0], operand, w.y, w.w);
            }
        } else {
            const float(&left)[4] = sums[j][0];
            const float(&right)[4] = sums[j][1];
            const uint4 operand = make_uint4(
                Pair<T>::pack(left[0], left[1]), Pair<T>::pack(left[2], left[3]),
                Pair<T>::pack(right[0], right[1]), Pair<T>::pack(right[2], right[3]));
#pragma unroll
            for (int part = 0; part < F::kVectors; ++part) {
                const uint4& w = weights.vector[part];
                MatrixUnit<T>::add(pooled[j][0], operand, w.x, w.z);
                MatrixUnit<T>::add(pooled[j][kFew ? 0 : 1], operand, w.y, w.w);
            }
        }
    }
}

// The positions of a lane's bins in a channel: row lane / 4, columns lane % 4 * 2 and the next one. With many
// bins also 8 rows down, 8 columns right, and both.
template <bool kFew>
struct Places {
    int at[kFew ? 2 : 4];
    unsigned last = 0u;  // bits of the bins in the last column

    __device__ Places(const Shape& shape, int lane) {
        const auto place = [&](int row, int column) {
            return bin_of(row, shape.output_height) * shape.output_width +
                   bin_of(column, shape.output_width);
        };
        const int row = lane / 4;
        const int column = lane % 4 * 2;
#pragma unroll
        for (int i = 0; i < (kFew ? 2 : 4); ++i) {
            at[i] = kFew ? place(row, column + i) : place(row + i / 2 * 8, column + i % 2 * 8);
            last |= column + i % 2 * 8 >= shape.output_width - 1 ? 1u << i : 0u;
        }
    }
};

template <int kOutputs, typename T>
__device__ inline void stage_pooled(
    T* target, const Pooled<true>& pooled, const Places<true>& places, bool, int outputs) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        T* at = target + places.at[i];
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            at[j * outputs] = from_float<T>(pooled[j / 2][0][j % 2 * 2 + i]);
        }
    }
}

template <int kOutputs, typename T>
__device__ inline void stage_pooled(
    T* target, const Pooled<false>& pooled, const Places<false>& places, bool even, int outputs) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        T* at = target + places.at[i];
#pragma unroll
        for (int j = 0; j < 2; ++j) {
            const float* values = pooled[j][i % 2] + i / 2 * 2;
            if (kOutputs > 0 || even) {
                *reinterpret_cast<unsigned*>(at + j * outputs) =
                    Pair<T>::pack(values[0], values[1]);
            } else {
                at[j * outputs] = from_float<T>(values[0]);
                // The next column; for the last column both have its value.
                at[j * outputs + (places.last >> i & 1 ? 0 : 1)] = from_float<T>(values[1]);
            }
        }
    }
}

}  // namespace maskrcnn_roi_align
}  // namespace trtyard
