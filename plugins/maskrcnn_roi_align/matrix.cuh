// RoIAlign of 16-bit features on the matrix units: a block holds the whole map of some channels of one
// image in shared memory, a warp takes a roi, and a tile of 16 x 16 cells of a channel is one matrix
// load, one product with Wy and one with Wx.
//
// Sums are float32. Between the two products a value is rounded to the feature type, as the result is.
#pragma once

#include "maskrcnn_roi_align/matrix_unit.cuh"
#include "maskrcnn_roi_align/resident.cuh"

namespace trtyard {
namespace maskrcnn_roi_align {

// Warps of a block: with few bins the registers for more of them would be missing.
template <bool kFew>
struct MatrixWarps {
    static constexpr int kWarps = kFew ? 16 : 20;
};

struct MatrixWork {
    int channels;  // of a block; a multiple of 4
    int groups;    // of channels, an image
    int splits;    // of the rois of a group, each a block
    int draw;      // rois that a warp looks at together
    int chunk_bits;  // a roi is 2^chunk_bits tasks, each some of the channels
    int staged;    // channels of a task that are stored together, a multiple of a batch
    int place;     // elements for these, of which a warp has two
    int bulk;      // whether stages are whole numbers of a bulk copy's units
    int stride;    // elements from a row of the map to the next
    unsigned inverse;  // ceil(2^32 / pairs of elements in a row)
};

// Reads the group's maps, a row to `stride` elements; what is behind a row's end and behind the last
// channel becomes zeros, so that nothing a weight of zero meets there is anything else.
template <typename T>
__device__ void load_rows(
    const T* source, T* maps, int channels, const Shape& shape, const MatrixWork& work) {
    const int thread = static_cast<int>(threadIdx.x);
    const int threads = static_cast<int>(blockDim.x);
    const int rows = channels * shape.height;
    const int width = shape.width;
    const int count = rows * width;
    constexpr int kVector = sizeof(uint4) / sizeof(T);
    const bool wide = reinterpret_cast<uintptr_t>(source) % sizeof(uint4) == 0 && width % 2 == 0 &&
                      width > 2;
    int done = 0;
    if (wide) {
        const int vectors = count / kVector;
        const int gap = (work.stride - width) / 2;
        const uint4* packed = reinterpret_cast<const uint4*>(source);
        unsigned* target = reinterpret_cast<unsigned*>(maps);
        constexpr int kDepth = 8;
        for (int base = thread; base < vectors; base += kDepth * threads) {
            uint4 values[kDepth];
#pragma unroll
            for (int i = 0; i < kDepth; ++i) {
                const int item = base + i * threads;
                values[i] = item < vectors ? packed[item] : make_uint4(0, 0, 0, 0);
            }
#pragma unroll
            for (int i = 0; i < kDepth; ++i) {
                const int item = base + i * threads;
                if (item < vectors) {
                    const unsigned words[4] = {values[i].x, values[i].y, values[i].z, values[i].w};
#pragma unroll
                    for (int k = 0; k < 4; ++k) {
                        const int word = item * 4 + k;
                        // Exact: both are below 2^16.
                        const int row =
                            static_cast<int>(__umulhi(static_cast<unsigned>(word), work.inverse));
                        target[word + row * gap] = words[k];
                    }
                }
            }
        }
        done = vectors * kVector;
    }
    for (int item = done + thread; item < count; item += threads) {
        const int row = item / width;
        maps[row * work.stride + item - row * width] = source[item];
    }
    const T zero = from_float<T>(0.0f);
    for (int row = thread; row < work.channels * shape.height; row += threads) {
        for (int column = row < rows ? width : 0; column < work.stride; ++column) {
            maps[row * work.stride + column] = zero;
        }
    }
}

template <bool kFew>
__device__ inline Fragment<kFew> load_fragment(const uint4* source) {
    Fragment<kFew> fragment;
#pragma unroll
    for (int part = 0; part < (kFew ? 1 : 2); ++part) {
        fragment.part[part] = source[part * kWarp];
    }
    return fragment;
}

// The weights of a roi of one tile of rows and at most a tile and a half of columns: of sides up to 16
// and 17 cells. They stay in registers.
constexpr int kNearSteps = 3;
constexpr int kNearTiles = 2;

template <bool kFew>
struct Near {
    Fragment<kFew> down, across[kNearTiles];
};

__device__ inline bool is_near(const Window& window) {
    return window.row_tiles() == 1 && window.column_steps() <= kNearSteps;
}

template <bool kFew>
__device__ inline void load_near(
    Near<kFew>& near, int roi, const Window& window, const FragmentTables& tables, int lane) {
    if (is_near(window)) {
        constexpr int kSize = (kFew ? 1 : 2) * kWarp;
        const uint4* down = tables.of<kFew>(roi, 0) + lane;
        const uint4* across = down + tables.row_tiles * kSize;
        near.down = load_fragment<kFew>(down);
        near.across[0] = load_fragment<kFew>(across);
        if (window.column_steps() > 2) {
            near.across[1] = load_fragment<kFew>(across + kSize);
        }
    }
}

// What a lane needs for any roi.
template <bool kFew, typename T>
struct MatrixLane {
    unsigned maps;  // address of the block's maps
    unsigned channel_bytes;
    int lane, stride, height;
    bool even;  // output columns
    Places<kFew> places;

    // Of the row of cells that this lane names to a matrix load.
    __device__ unsigned address(const Window& window, int row_tile, int column_tile) const {
        const int row = min(window.top + row_tile * kTile + lane % kTile, height - 1);
        const int column = min(
            window.left + column_tile * kTile + lane / kTile * kColumnStep, stride - kColumnStep);
        return maps + static_cast<unsigned>((row * stride + column) * static_cast<int>(sizeof(T)));
    }
};

// A task's results on their way to memory: staged some channels at a time, in two places by turns.
template <typename T>
struct Stages {
    T* places;
    int place;     // elements from one to the other
    T* target;     // of the next stage in memory
    int outputs;   // a channel
    int channels;  // of the task that exist and are not stored yet
    int side;
    bool bulk;     // any whole stage can be a bulk copy

    __device__ T* begin(int lane) {
#if TRTYARD_HAS_BULK_COPY
        if (lane == 0) {
            wait_bulk_reads<1>();  // of this place; the other's may go on
        }
#endif
        __syncwarp();
        return places + side * place;
    }

    __device__ void end(T* stage, int count, int lane) {
        const bool in_bulk = TRTYARD_HAS_BULK_COPY != 0 && bulk && count <= channels;
#if TRTYARD_HAS_BULK_COPY
        if (in_bulk) {
            fence_bulk_copies();
            __syncwarp();
            if (lane == 0) {
                start_bulk_store(
                    target, stage, static_cast<unsigned>(count * outputs) * sizeof(T));
            }
        }
#endif
        if (!in_bulk) {
            __syncwarp();
            if (channels > 0) {
                store_task<false>(target, stage, min(count, channels) * outputs, lane);
            }
        }
        target += count * outputs;
        channels -= count;
        side ^= 1;
    }
};

template <bool kFew, int kOutputs, int kSteps, typename T>
__device__ inline void pool_near(
    const MatrixLane<kFew, T>& own, const Window& window, const Near<kFew>& weights, int first,
    int count, int staged, Stages<T>& stages) {
    constexpr int kChannels = Batch<kFew>::kChannels;
    const int outputs = kOutputs > 0 ? kOutputs : stages.outputs;
    const unsigned batch_bytes = kChannels * own.channel_bytes;
    unsigned left = own.address(window, 0, 0) + first * own.channel_bytes;
    unsigned right = own.address(window, 0, 1) + first * own.channel_bytes;
    for (int done = 0; done < count; done += staged) {
        T* stage = stages.begin(own.lane);
        const int now = min(staged, count - done);
#pragma unroll 1
        for (int channel = 0; channel < now; channel += kChannels) {
            Pooled<kFew> pooled = {};
            {
                float sums[kChannels][2][4] = {};
                add_rows<kFew, 2, T>(sums, left, own.channel_bytes, weights.down);
                add_columns<kFew, T>(pooled, sums, weights.across[0]);
                left += batch_bytes;
            }
            if (kSteps > 2) {
                float sums[kChannels][2][4] = {};
                add_rows<kFew, 1, T>(sums, right, own.channel_bytes, weights.down);
                add_columns<kFew, T>(pooled, sums, weights.across[1]);
                right += batch_bytes;
            }
            stage_pooled<kOutputs>(
                stage + channel * outputs, pooled, own.places, own.even, outputs);
        }
        stages.end(stage, now, own.lane);
    }
}

// Any roi: its weights are read again for every batch of channels.
template <bool kFew, int kOutputs, typename T>
__device__ inline void pool_far(
    const MatrixLane<kFew, T>& own, const Window& window, const uint4* down, const uint4* across, int first,
    int count, int staged, Stages<T>& stages) {
    constexpr int kSize = (kFew ? 1 : 2) * kWarp;
    constexpr int kChannels = Batch<kFew>::kChannels;
    const int outputs = kOutputs > 0 ? kOutputs : stages.outputs;
    for (int done = 0; done < count; done += staged) {
        T* stage = stages.begin(own.lane);
        const int now = min(staged, count - done);
#pragma unroll 1
        for (int channel = 0; channel < now; channel += kChannels) {
            const unsigned offset = (first + done + channel) * own.channel_bytes;
            Pooled<kFew> pooled = {};
#pragma unroll 1
            for (int column = 0; column < window.column_tiles(); ++column) {
                float sums[kChannels][2][4] = {};
#pragma unroll 1
                for (int row = 0; row < window.row_tiles(); ++row) {
                    add_rows<kFew, 2, T>(
                        sums, own.address(window, row, column) + offset, own.channel_bytes,
                        load_fragment<kFew>(down + row * kSize + own.lane));
                }
                add_columns<kFew, T>(
                    pooled, sums, load_fragment<kFew>(across + column * kSize + own.lane));
            }
            stage_pooled<kOutputs>(
                stage + channel * outputs, pooled, own.places, own.even, outputs);
        }
        stages.end(stage, now, own.lane);
    }
}

// One block a (image, group of channels, split of the rois).
template <bool kFew, int kOutputs, typename T>
__global__ void __launch_bounds__(MatrixWarps<kFew>::kWarps * kWarp, 1) pool_matrix(
    const T* features, T* pooled, FragmentTables tables, Shape shape, MatrixWork work) {
    extern __shared__ uint4 shared[];
    __shared__ int next_draw;
    const int outputs = kOutputs > 0 ? kOutputs : shape.output_height * shape.output_width;
    const int warp = static_cast<int>(threadIdx.x) / kWarp;
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    T* maps = reinterpret_cast<T*>(shared);
    T* places = maps + static_cast<int64_t>(work.channels) * shape.height * work.stride +
                warp * 2 * work.place;

    const int split = static_cast<int>(blockIdx.x) % work.splits;
    const int group = static_cast<int>(blockIdx.x) / work.splits % work.groups;
    const int image = static_cast<int>(blockIdx.x) / work.splits / work.groups;
    const int first_channel = group * work.channels;
    const int channels = min(work.channels, shape.channels - first_channel);
    if (threadIdx.x == 0) {
        next_draw = 0;
    }
    const int64_t first_map = static_cast<int64_t>(image) * shape.channels + first_channel;
    load_rows(features + first_map * shape.height * shape.width, maps, channels, shape, work);
    wait_for_prior_kernel();  // the tables
    __syncthreads();

    const MatrixLane<kFew, T> own{
        static_cast<unsigned>(__cvta_generic_to_shared(maps)),
        static_cast<unsigned>(shape.height * work.stride) * static_cast<unsigned>(sizeof(T)),
        lane, work.stride, shape.height, shape.output_width % 2 == 0, Places<kFew>(shape, lane)};

    const int share = shape.rois / work.splits;
    const int rest = shape.rois % work.splits;
    const int begin = share * split + min(split, rest);
    const int end = begin + share + (split < rest ? 1 : 0);
    const int draws = (end - begin + work.draw - 1) / work.draw
                      << work.chunk_bits;
    const int task_channels = work.channels >> work.chunk_bits;
    const int64_t roi_stride = static_cast<int64_t>(shape.channels) * outputs;

    // The rois of a draw that are left, and what the next task needs, read while one runs.
    int first_roi = 0;
    int chunk = 0;
    unsigned alive = 0;
    Window candidate_window{};
    int next_roi = -1;
    int next_first = 0;
    Window next_window{};
    Near<kFew> next{};
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
            chunk = (draw & ((1 << work.chunk_bits) - 1)) * task_channels;
            first_roi = begin + (draw >> work.chunk_bits) * work.draw;
            const int candidate = first_roi + lane;
            const bool exists = lane < work.draw && candidate < end;
            if (exists) {
                const int4 window = reinterpret_cast<const int4*>(tables.windows)[candidate];
                candidate_window = {window.x, window.y, window.z, window.w};
            }
            alive = __ballot_sync(kFullWarp, exists && candidate_window.image == image);
            unsigned padded = __ballot_sync(
                kFullWarp, exists && candidate_window.image == kPadded &&
                               (shape.batch == 1 || candidate % shape.batch == image));
            const int real = min(task_channels, channels - chunk);
            for (; padded != 0 && real > 0; padded &= padded - 1) {
                const int64_t roi = first_roi + __ffs(static_cast<int>(padded)) - 1;
                store_zeros(
                    pooled + roi * roi_stride + static_cast<int64_t>(first_channel + chunk) * outputs,
                    real * outputs, lane);
            }
        }
        const int source = __ffs(static_cast<int>(alive)) - 1;
        alive &= alive - 1;
        next_roi = first_roi + source;
        next_first = chunk;
        next_window.top = __shfl_sync(kFullWarp, candidate_window.top, source);
        next_window.left = __shfl_sync(kFullWarp, candidate_window.left, source);
        next_window.size = __shfl_sync(kFullWarp, candidate_window.size, source);
        load_near(next, next_roi, next_window, tables, lane);
    };

    Stages<T> stages;
    stages.places = places;
    stages.outputs = outputs;
    stages.side = 0;
    stages.bulk = work.bulk != 0 && reinterpret_cast<uintptr_t>(pooled) % kBulkAlignment == 0;
    stages.place = work.place;
    take_next();
    while (next_roi >= 0) {
        const int64_t roi = next_roi;
        const int first = next_first;
        const Window window = next_window;
        const Near<kFew> weights = next;
        take_next();
        stages.target =
            pooled + roi * roi_stride + static_cast<int64_t>(first_channel + first) * outputs;
        stages.channels = channels - first;
        if (is_near(window) && window.column_steps() <= 2) {
            pool_near<kFew, kOutputs, 2>(
                own, window, weights, first, task_channels, work.staged, stages);
        } else if (is_near(window)) {
            pool_near<kFew, kOutputs, kNearSteps>(
                own, window, weights, first, task_channels, work.staged, stages);
        } else {
            pool_far<kFew, kOutputs>(
                own, window, tables.of<kFew>(roi, 0), tables.of<kFew>(roi, tables.row_tiles), first,
                task_channels, work.staged, stages);
        }
    }
#if TRTYARD_HAS_BULK_COPY
    if (lane == 0) {
        wait_bulk_reads<0>();  // shared memory is handed on when the block ends
    }
#endif
}

}  // namespace maskrcnn_roi_align
}  // namespace trtyard
