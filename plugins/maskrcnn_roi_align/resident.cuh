// RoIAlign with the map in shared memory: a block holds the whole map of a few channels of one image
// and pools every roi of the image from it, so features cross the memory once however many rois
// there are. A warp takes a roi; a lane takes one output column of kPairs channels.
#pragma once

#include "common/async.cuh"
#include "common/element.cuh"
#include "maskrcnn_roi_align/tables.cuh"

namespace trtyard {
namespace maskrcnn_roi_align {

constexpr int kMaxWarps = 24;  // a block: leaves 80 registers a thread

// kLanes: lanes for the columns of one channel (8 or 16); the 32 / kLanes parts of a warp take
// kPairs channels each. kStride: floats from a channel's map to the next one's, a constant so that
// channels are immediate offsets, chosen so that the parts read other banks of shared memory.
template <int kLanes_, int kPairs_, int kStride_>
struct Layout {
    static constexpr int kLanes = kLanes_;
    static constexpr int kPairs = kPairs_;
    static constexpr int kStride = kStride_;
    static constexpr int kParts = kWarp / kLanes;
    static constexpr int kChannels = kParts * kPairs;
    static constexpr int kMapFloats = kChannels * kStride;
    // A window reads up to two cells behind the last one, with weights of zero.
    static constexpr int kMaxPlane = kStride - (kWindowTaps - 1);
    static_assert(kPairs * kStride % 32 == kLanes, "the parts must lie in other banks");
    static_assert(kStride % 2 == 0, "the map is written two floats at a time");
};

// A warp's copy of a roi's bins on the y axis: the one behind the last is read, too.
constexpr int kBinTable = kMaxBins + 1;

struct Work {
    int groups;  // of channels, an image
    int splits;  // of the rois of a group, each a block
    int draw;    // rois that a warp looks at together
    unsigned vectors_inverse;  // ceil(2^32 / 16-byte vectors of a map)
};

// Bytes of pooled that one task writes, rounded up: a group's channels of one roi.
__host__ __device__ constexpr size_t staged_bytes(int channels, int outputs, int element_size) {
    return (static_cast<size_t>(channels) * outputs * element_size + kBulkAlignment - 1) /
           kBulkAlignment * kBulkAlignment;
}

template <typename T>
__device__ inline void widen(const uint4& packed, float* floats) {
    const T* elements = reinterpret_cast<const T*>(&packed);
#pragma unroll
    for (int i = 0; i < static_cast<int>(sizeof(uint4) / sizeof(T)); ++i) {
        floats[i] = to_float(elements[i]);
    }
}

// Reads the group's maps as float32; channels behind the last one, and the cells behind a map, are
// zeros, so that nothing a weight of zero meets is anything else.
template <typename L, typename T>
__device__ void load_maps(
    const T* source, float* maps, int channels, int plane, unsigned vectors_inverse) {
    constexpr int kVector = sizeof(uint4) / sizeof(T);
    const int thread = static_cast<int>(threadIdx.x);
    const int threads = static_cast<int>(blockDim.x);
    const bool aligned = reinterpret_cast<uintptr_t>(source) % sizeof(uint4) == 0;
    if (aligned && plane % kVector == 0 && plane > kVector) {
        const int vectors = plane / kVector;
        const int all = channels * vectors;
        const uint4* packed = reinterpret_cast<const uint4*>(source);
        constexpr int kDepth = 4;
        for (int base = thread; base < all; base += kDepth * threads) {
            uint4 values[kDepth];
#pragma unroll
            for (int i = 0; i < kDepth; ++i) {
                const int item = base + i * threads;
                values[i] = item < all ? packed[item] : make_uint4(0, 0, 0, 0);
            }
#pragma unroll
            for (int i = 0; i < kDepth; ++i) {
                const int item = base + i * threads;
                if (item < all) {
                    float floats[kVector];
                    widen<T>(values[i], floats);
                    // Exact: both are below 2^16.
                    const int channel = static_cast<int>(
                        __umulhi(static_cast<unsigned>(item), vectors_inverse));
                    float* target =
                        maps + channel * L::kStride + (item - channel * vectors) * kVector;
#pragma unroll
                    for (int k = 0; k < kVector; k += 2) {
                        *reinterpret_cast<float2*>(target + k) =
                            make_float2(floats[k], floats[k + 1]);
                    }
                }
            }
        }
    } else {
        for (int item = thread; item < channels * plane; item += threads) {
            const int channel = item / plane;
            maps[channel * L::kStride + item - channel * plane] = to_float(source[item]);
        }
    }
    constexpr int kBehind = kWindowTaps - 1;
    for (int item = thread; item < L::kChannels * kBehind; item += threads) {
        maps[item / kBehind * L::kStride + plane + item % kBehind] = 0.0f;
    }
    for (int channel = channels; channel < L::kChannels; ++channel) {
        for (int cell = thread; cell < plane; cell += threads) {
            maps[channel * L::kStride + cell] = 0.0f;
        }
    }
}

// What a lane needs for any roi.
template <typename L, typename T>
struct Lane {
    const float* maps;  // of the lane's first channel
    T* staged;          // the lane's column of its first channel
    int height, width, output_height, output_width, outputs;
};

template <typename L>
struct Row {
    float value[L::kPairs];
};

// One row of the map times Wx: the lane's column of each of its channels.
template <typename L>
__device__ inline Row<L> window_row(const float* cells, const float4& head) {
    Row<L> row;
#pragma unroll
    for (int j = 0; j < L::kPairs; ++j) {
        const float* at = cells + j * L::kStride;
        row.value[j] = head.y * at[0] + head.z * at[1] + head.w * at[2];
    }
    return row;
}

// kWindowForm. Each row of the map under the roi is read once; a bin is a sum over the last three.
template <typename L, int kOutputs, typename T>
__device__ void pool_window(const Lane<L, T>& lane, const float4& column, const float4* bins) {
    const int outputs = kOutputs > 0 ? kOutputs : lane.outputs;
    float4 head = bins[0];
    const float4* next_bin = bins + 1;
    const int last = __float_as_int(bins[lane.output_height - 1].x);
    int top = __float_as_int(head.x);  // row of the bins that are written next
    const float* maps = lane.maps + __float_as_int(column.x);
    int cell = top * lane.width;
    const int last_cell = (lane.height - 1) * lane.width;
    T* target = lane.staged;

    const auto read = [&] {
        const Row<L> row = window_row<L>(maps + cell, column);
        cell = min(cell + lane.width, last_cell);  // the last row again, with weights of zero
        return row;
    };
    // Writes the bins whose three rows these are; behind the last bin there is kNoRow.
    const auto write = [&](const Row<L>& first, const Row<L>& second, const Row<L>& third) {
        while (__float_as_int(head.x) == top) {
            T values[L::kPairs];
#pragma unroll
            for (int j = 0; j < L::kPairs; ++j) {
                values[j] = from_float<T>(
                    head.y * first.value[j] + head.z * second.value[j] + head.w * third.value[j]);
            }
            head = *next_bin++;  // before the stores, which the compiler must keep it behind
#pragma unroll
            for (int j = 0; j < L::kPairs; ++j) {
                target[j * outputs] = values[j];
            }
            target += lane.output_width;
        }
        return ++top <= last;
    };

    Row<L> a = read();
    Row<L> b = read();
    Row<L> c = read();
    while (write(a, b, c)) {
        a = read();
        if (!write(b, c, a)) {
            break;
        }
        b = read();
        if (!write(c, a, b)) {
            break;
        }
        c = read();
    }
}

// kLoopForm. Each bin reads its own rows; neighbours share at most two.
template <typename L, typename T>
__device__ void pool_loop(
    const Lane<L, T>& lane, const float4& column, const float4* bins, const float4* tails,
    int part_lane, const Header& header) {
    const float4 near = tails[part_lane];
    const float4 far = tails[kMaxBins + part_lane];
    const float weights[kMaxTaps] = {column.y, column.z, column.w, near.x, near.y, near.z,
                                     near.w,   far.x,    far.y,    far.z,  far.w};
    const float* row_tails = reinterpret_cast<const float*>(tails + kWarp);
    // A lane whose bin has fewer cells reads its last ones again, with weights of zero.
    const int first = __float_as_int(column.x);
    T* target = lane.staged;
    for (int bin = 0; bin < lane.output_height; ++bin) {
        const float4 head = bins[bin];
        const int top = __float_as_int(head.x);
        float sum[L::kPairs] = {};
        for (int i = 0; i < header.rows; ++i) {
            const int tail = i - kWindowTaps;
            const float vertical =
                i == 0   ? head.y
                : i == 1 ? head.z
                : i == 2 ? head.w
                         : row_tails[(tail / 4 * kMaxBins + bin) * 4 + tail % 4];
            const float* cells = lane.maps + min(top + i, lane.height - 1) * lane.width;
            float row[L::kPairs] = {};
#pragma unroll
            for (int k = 0; k < kMaxTaps; ++k) {
                if (k < header.columns) {
                    const float* at = cells + min(first + k, lane.width - 1);
#pragma unroll
                    for (int j = 0; j < L::kPairs; ++j) {
                        row[j] += weights[k] * at[j * L::kStride];
                    }
                }
            }
#pragma unroll
            for (int j = 0; j < L::kPairs; ++j) {
                sum[j] += vertical * row[j];
            }
        }
#pragma unroll
        for (int j = 0; j < L::kPairs; ++j) {
            target[j * lane.outputs] = from_float<T>(sum[j]);
        }
        target += lane.output_width;
    }
}

// kSampleForm. As the op is written, for rois whose bins cover more cells than a table holds.
template <typename L, typename T>
__device__ __noinline__ void pool_samples(
    const Lane<L, T> lane, const float* corners, int column, const Shape shape,
    const Sampling sampling) {  // by value: a reference would keep the caller's in memory
    const Axis x = make_roi_axis(corners, false, shape, sampling);
    const Axis y = make_roi_axis(corners, true, shape, sampling);
    const Range columns = inside(x, column, lane.width);
    const float samples = fmaxf(1.0f, static_cast<float>(x.samples) * static_cast<float>(y.samples));
    T* target = lane.staged;
    for (int bin = 0; bin < lane.output_height; ++bin) {
        const Range rows = inside(y, bin, lane.height);
        float sum[L::kPairs] = {};
        for (int i = rows.first; i < rows.end; ++i) {
            const Tap v = make_tap(sample(y, bin, i), lane.height);
            for (int k = columns.first; k < columns.end; ++k) {
                const Tap h = make_tap(sample(x, column, k), lane.width);
                const float* upper = lane.maps + v.low * lane.width;
                const float* lower = lane.maps + v.high * lane.width;
#pragma unroll
                for (int j = 0; j < L::kPairs; ++j) {
                    const int map = j * L::kStride;
                    const float above =
                        h.weight_low * upper[map + h.low] + h.weight_high * upper[map + h.high];
                    const float below =
                        h.weight_low * lower[map + h.low] + h.weight_high * lower[map + h.high];
                    sum[j] += v.weight_low * above + v.weight_high * below;
                }
            }
        }
#pragma unroll
        for (int j = 0; j < L::kPairs; ++j) {
            target[j * lane.outputs] = from_float<T>(sum[j] / samples);
        }
        target += lane.output_width;
    }
}

// Whether tasks are stored by bulk copies rather than by the warp. They relieve the load-store unit,
// which limits narrow elements and few bins; plain stores are faster where the memory limits.
template <typename L, typename T>
struct StoresInBulk {
    static constexpr bool value =
        TRTYARD_HAS_BULK_COPY != 0 && (sizeof(T) < sizeof(float) || L::kLanes < 16);
};

// Writes `count` elements from shared to global memory: by a bulk copy, which is still reading
// `source` on return, or else by the warp.
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

// Writes `count` zeros, with plain stores: bulk copies of a block of zeros were slower.
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

// One block a (image, group of channels, split of the rois).
template <typename L, int kOutputs, typename T>
__global__ void __launch_bounds__(kMaxWarps * kWarp, 1) pool_resident(
    const T* features, const float* rois, T* pooled, Tables tables, Shape shape, Sampling sampling,
    Work work) {
    extern __shared__ uint4 shared[];
    __shared__ int next_draw;
    const int outputs = kOutputs > 0 ? kOutputs : shape.output_height * shape.output_width;
    const size_t staged = staged_bytes(L::kChannels, outputs, sizeof(T));
    float* maps = reinterpret_cast<float*>(shared);
    char* behind = reinterpret_cast<char*>(maps + L::kMapFloats);
    const int warp = static_cast<int>(threadIdx.x) / kWarp;
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const size_t task_bytes = staged + kBinTable * sizeof(float4);
    float4* bins = reinterpret_cast<float4*>(behind + warp * task_bytes);
    T* stage = reinterpret_cast<T*>(bins + kBinTable);

    const int split = static_cast<int>(blockIdx.x) % work.splits;
    const int group = static_cast<int>(blockIdx.x) / work.splits % work.groups;
    const int image = static_cast<int>(blockIdx.x) / work.splits / work.groups;
    const int first_channel = group * L::kChannels;
    const int channels = min(L::kChannels, shape.channels - first_channel);
    const int plane = shape.height * shape.width;

    if (threadIdx.x == 0) {
        next_draw = 0;
    }
    const int64_t first_map = static_cast<int64_t>(image) * shape.channels + first_channel;
    load_maps<L>(
        features + first_map * plane, maps, channels, plane, work.vectors_inverse);
    for (int i = lane; i < kBinTable - kMaxBins; i += kWarp) {
        bins[kMaxBins + i] = make_float4(__int_as_float(kNoRow), 0.0f, 0.0f, 0.0f);
    }
    wait_for_prior_kernel();  // the tables
    __syncthreads();

    const int part = lane / L::kLanes;
    // Lanes behind the last column do its work once more: the same reads, the same writes.
    const int part_lane = min(lane % L::kLanes, shape.output_width - 1);
    Lane<L, T> own;
    own.maps = maps + part * L::kPairs * L::kStride;
    own.staged = stage + part * L::kPairs * outputs + part_lane;
    own.height = shape.height;
    own.width = shape.width;
    own.output_height = shape.output_height;
    own.output_width = shape.output_width;
    own.outputs = outputs;

    const int begin = static_cast<int>(static_cast<int64_t>(shape.rois) * split / work.splits);
    const int end = static_cast<int>(static_cast<int64_t>(shape.rois) * (split + 1) / work.splits);
    const int draws = (end - begin + work.draw - 1) / work.draw;
    const int64_t roi_stride = static_cast<int64_t>(shape.channels) * outputs;
    const int64_t base = static_cast<int64_t>(first_channel) * outputs;

    // The rois of a draw that are left, and what the next task needs, read while one runs.
    int first_roi = 0;
    unsigned alive = 0;
    Header header{};
    int next_roi = -1;
    int next_form = 0;
    float4 column{};
    float4 bin{};
    const auto take_next = [&] {
        while (alive == 0) {
            int draw = 0;
            if (lane == 0) {
                draw = atomicAdd(&next_draw, 1);
            }
            draw = __shfl_sync(kFullWarp, draw, 0);
            if (draw >= draws) {
                next_roi = -1;
                return;
            }
            first_roi = begin + draw * work.draw;
            const int candidate = first_roi + lane;
            const bool exists = lane < work.draw && candidate < end;
            if (exists) {
                header = tables.headers[candidate];
            }
            alive = __ballot_sync(kFullWarp, exists && header.image == image);
            unsigned padded = __ballot_sync(
                kFullWarp, exists && header.image == kPadded &&
                               (shape.batch == 1 || candidate % shape.batch == image));
            for (; padded != 0; padded &= padded - 1) {
                const int64_t roi = first_roi + __ffs(static_cast<int>(padded)) - 1;
                store_zeros(pooled + roi * roi_stride + base, channels * outputs, lane);
            }
        }
        const int source = __ffs(static_cast<int>(alive)) - 1;
        alive &= alive - 1;
        next_roi = first_roi + source;
        next_form = __shfl_sync(kFullWarp, header.form, source);
        const float4* heads = tables.heads + static_cast<int64_t>(next_roi) * kWarp;
        column = heads[part_lane];
        bin = heads[kMaxBins + lane % kMaxBins];
    };

    take_next();
    while (next_roi >= 0) {
        const int64_t roi = next_roi;
        const int form = next_form;
        const float4 own_column = column;
#if TRTYARD_HAS_BULK_COPY
        if (lane == 0) {
            wait_bulk_reads<0>();
        }
#endif
        if (lane < kMaxBins) {
            bins[lane] = bin;
        }
        __syncwarp();
        take_next();
        if (form == kWindowForm) {
            pool_window<L, kOutputs>(own, own_column, bins);
        } else if (form == kLoopForm) {
            pool_loop(
                own, own_column, bins, tables.tails + roi * 2 * kWarp, part_lane,
                tables.headers[roi]);
        } else {
            pool_samples(own, rois + roi * 4, part_lane, shape, sampling);
        }
#if TRTYARD_HAS_BULK_COPY
        fence_bulk_copies();
#endif
        __syncwarp();
        store_task<StoresInBulk<L, T>::value>(
            pooled + roi * roi_stride + base, stage, channels * outputs, lane);
        __syncwarp();
    }
#if TRTYARD_HAS_BULK_COPY
    if (lane == 0) {
        wait_bulk_reads<0>();  // shared memory is handed on when the block ends
    }
#endif
}

}  // namespace maskrcnn_roi_align
}  // namespace trtyard
