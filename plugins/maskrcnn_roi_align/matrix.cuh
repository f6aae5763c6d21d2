// RoIAlign of 16-bit features on the matrix units. A block holds the whole map of some channels of one image
// in shared memory, and a warp computes a roi. A tile of 16 x 16 cells of a channel needs one matrix load, one
// product with Wy and one with Wx.
//
// Sums are float32. Between the two products, and at the end, a value is rounded to the feature type.
#pragma once

#include "maskrcnn_roi_align/matrix_unit.cuh"
#include "maskrcnn_roi_align/stores.cuh"

namespace trtyard {
namespace maskrcnn_roi_align {

// Warps of a block; with few bins there are not enough registers for more.
template <bool kFew>
struct MatrixWarps {
    static constexpr int kWarps = kFew ? 16 : 20;
};

struct MatrixWork {
    int channels;  // of a block; a multiple of 4
    int groups;    // of channels in an image
    int splits;    // of the rois of a group, one block each
    int draw;      // rois that a warp checks at once
    int chunk_bits;  // a roi is 2^chunk_bits tasks, each with some channels
    int staged;    // channels of a task that are stored together; a multiple of a batch
    int place;     // elements for these; a warp has two such places
    int bulk;      // whether a stage is a multiple of a bulk copy's unit
    int stride;    // elements from one row of the map to the next
    unsigned inverse;  // ceil(2^32 / pairs of elements in a row)
};

// Reads the group's maps, one row into `stride` elements. Elements after the end of a row and after the last
// channel become zeros, because they are multiplied by weights of zero and must not be NaN or infinity.
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

// The weights of a roi with one tile of rows and at most one and a half of columns: up to 16 rows and 17
// columns of cells. They stay in registers.
constexpr int kNearSteps = 3;
constexpr int kNearTiles = 2;

template <bool kFew, typename T>
struct Near {
    Fragment<kFew, T> down, across[kNearTiles];
};

__device__ inline bool is_near(const Window& window) {
    return window.row_tiles() == 1 && window.column_steps() <= kNearSteps;
}

template <bool kFew, typename T>
__device__ inline void load_near(
    Near<kFew, T>& near, int roi, const Window& window, const FragmentTables& tables, int lane) {
    if (is_near(window)) {
        constexpr int kSize = Fragment<kFew, T>::kWords * kWarp;
        const unsigned* down = fragment_of<kFew, T>(tables, roi, 0);
        const unsigned* across = down + tables.row_tiles * kSize;
        near.down = load_fragment<kFew, T>(down, lane);
        near.across[0] = load_fragment<kFew, T>(across, lane);
        if (window.column_steps() > 2) {
            near.across[1] = load_fragment<kFew, T>(across + kSize, lane);
        }
    }
}

// The state of a lane for any roi.
template <bool kFew, typename T>
struct MatrixLane {
    unsigned maps;  // address of the block's maps
    unsigned channel_bytes;
    int lane, stride, height;
    bool even;  // output columns
    Places<kFew> places;

    // Of the row of cells whose address this lane passes to a matrix load.
    __device__ unsigned address(const Window& window, int row_tile, int column_tile) const {
        const int row = min(window.top + row_tile * kTile + lane % kTile, height - 1);
        const int column = min(
            window.left + column_tile * kTile + lane / kTile * kColumnStep, stride - kColumnStep);
        return maps + static_cast<unsigned>((row * stride + column) * static_cast<int>(sizeof(T)));
    }
};

// Stores a task's results: some channels at a time are staged in shared memory, in two places by turns.
template <typename T>
struct Stages {
    T* places;
    int place;     // elements from one to the other
    T* target;     // of the next stage, in device memory
    int outputs;   // of a channel
    int channels;  // of the task, without padding, that are not stored yet
    int side;
    bool bulk;     // every full stage can be a bulk copy
    bool channels_last;
    int pitch;         // channels of pooled in memory

    __device__ T* begin(int lane) {
#if TRTYARD_HAS_BULK_COPY
        if (lane == 0) {
            wait_bulk_reads<1>();  // of this place; those of the other may continue
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
            const int real = min(count, channels);
            if (channels_last && real > 0) {
                store_channels_last(target, stage, 0, real, outputs, pitch, lane);
            } else if (real > 0) {
                store_task<false>(target, stage, real * outputs, lane);
            }
        }
        target += channels_last ? count : count * outputs;
        channels -= count;
        side ^= 1;
    }
};

template <bool kFew, int kOutputs, int kSteps, typename T>
__device__ inline void pool_near(
    const MatrixLane<kFew, T>& own, const Window& window, const Near<kFew, T>& weights, int first,
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

// Every roi: its weights are read again for each batch of channels.
template <bool kFew, int kOutputs, typename T>
__device__ inline void pool_far(
    const MatrixLane<kFew, T>& own, const Window& window, const unsigned* down, const unsigned* across,
    int first, int count, int staged, Stages<T>& stages) {
    constexpr int kSize = Fragment<kFew, T>::kWords * kWarp;
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
                        load_fragment<kFew, T>(down + row * kSize, own.lane));
                }
                add_columns<kFew, T>(
                    pooled, sums, load_fragment<kFew, T>(across + column * kSize, own.lane));
            }
            stage_pooled<kOutputs>(
                stage + channel * outputs, pooled, own.places, own.even, outputs);
        }
        stages.end(stage, now, own.lane);
    }
}

// One block for each image, group of channels and split of the rois.
template <bool kFew, int kOutputs, typename T>
__global__ void __launch_bounds__(MatrixWarps<kFew>::kWarps * kWarp, 1) pool_matrix(
    const T* features, T* pooled, FragmentTables tables, Shape shape, Order order,
    MatrixWork work) {
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
    // The channels to read, and the channels to write: the latter include padding with channels last.
    const int channels = max(0, min(work.channels, shape.channels - first_channel));
    const int written = min(work.channels, order.pitch - first_channel);
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
    // The first bin of a roi in a channel of this block.
    const auto target_of = [&](int64_t roi, int channel) {
        return pooled + roi * order.pitch * outputs +
               static_cast<int64_t>(first_channel + channel) * (order.channels_last ? 1 : outputs);
    };

    // The remaining rois of a draw, and the next task's data, which are read while one task runs.
    int first_roi = 0;
    int chunk = 0;
    unsigned alive = 0;
    Window candidate_window{};
    int next_roi = -1;
    int next_first = 0;
    Window next_window{};
    Near<kFew, T> next{};
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
            const int real = min(task_channels, written - chunk);
            for (; padded != 0 && real > 0; padded &= padded - 1) {
                const int64_t roi = first_roi + __ffs(static_cast<int>(padded)) - 1;
                T* target = target_of(roi, chunk);
                if (order.channels_last) {
                    store_zeros_last(target, 0, real, outputs, order.pitch, lane);
                } else {
                    store_zeros(target, real * outputs, lane);
                }
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
    stages.channels_last = order.channels_last;
    stages.pitch = order.pitch;
    take_next();
    while (next_roi >= 0) {
        const int64_t roi = next_roi;
        const int first = next_first;
        const Window window = next_window;
        const Near<kFew, T> weights = next;
        take_next();
        stages.target = target_of(roi, first);
        stages.channels = written - first;
        if (is_near(window) && window.column_steps() <= 2) {
            pool_near<kFew, kOutputs, 2>(
                own, window, weights, first, task_channels, work.staged, stages);
        } else if (is_near(window)) {
            pool_near<kFew, kOutputs, kNearSteps>(
                own, window, weights, first, task_channels, work.staged, stages);
        } else {
            pool_far<kFew, kOutputs>(
                own, window, fragment_of<kFew, T>(tables, roi, 0),
                fragment_of<kFew, T>(tables, roi, tables.row_tiles), first, task_channels, work.staged, stages);
        }
    }
#if TRTYARD_HAS_BULK_COPY
    if (lane == 0) {
        wait_bulk_reads<0>();  // shared memory is released when the block ends
    }
#endif
}

// The cost of what a block reads: its maps, which count more because nothing overlaps with that read (a factor
// of 4 was measured), and the weights of its rois.
inline int64_t matrix_cost(const Shape& shape, int64_t channels, int64_t rois) {
    constexpr int64_t kUsualBytes = 3 * 512;  // of a roi's tiles on both axes
    return 4 * 2 * channels * shape.height * shape.width + rois * kUsualBytes;
}

// How the work is divided; 0 channels if the maps do not fit.
template <bool kFew, typename T>
MatrixWork share_out(const Shape& shape, const Order& pooled, const Device& device) {
    MatrixWork work{};
    // A row begins at a multiple of 16 bytes, and eight rows are in different banks.
    work.stride = static_cast<int>(ceil_div(shape.width, kColumnStep) | 1) * kColumnStep;
    work.inverse = inverse_of(static_cast<unsigned>(shape.width / 2));
    const int64_t map_bytes = static_cast<int64_t>(shape.height) * work.stride * sizeof(T);
    const int64_t channel_bytes =
        static_cast<int64_t>(shape.output_height) * shape.output_width * sizeof(T);
    constexpr int64_t kBatch = Batch<kFew>::kChannels;
    constexpr int64_t kPlaces = 2 * MatrixWarps<kFew>::kWarps;
    const int64_t own = 256;  // static shared memory, rounded up
    const auto place_bytes = [&](int64_t channels) {
        const int64_t left = device.shared_bytes - own - channels * map_bytes;
        return left > 0 ? left / kPlaces / kBulkAlignment * kBulkAlignment : 0;
    };
    int64_t least = 0;
    // With many bins, 16 channels leave room for larger stages.
    for (int64_t channels = kFew ? 32 : 16; channels >= 4; channels /= 2) {
        if (place_bytes(channels) < kBatch * channel_bytes) {
            continue;
        }
        const int64_t groups = ceil_div(pooled.pitch, channels);
        const int64_t blocks = groups * shape.batch;
        const int64_t splits = device.multiprocessors / blocks;
        const int64_t rois = ceil_div(shape.rois, splits > 1 ? splits : 1);
        const int64_t cost =
            matrix_cost(shape, channels, rois) * ceil_div(blocks, device.multiprocessors);
        if (work.channels == 0 || cost < least) {
            least = cost;
            work.channels = static_cast<int>(channels);
            work.groups = static_cast<int>(groups);
            work.splits = static_cast<int>(splits > 1 ? splits : 1);
        }
    }
    if (work.channels == 0) {
        return work;
    }
    work.splits = work.splits < shape.rois ? work.splits : shape.rois;
    work.draw = shape.batch < kWarp ? shape.batch : kWarp;
    constexpr int64_t kTasks = 5 * MatrixWarps<kFew>::kWarps;  // so that the last tasks are short
    const int64_t rois = ceil_div(shape.rois, int64_t{work.splits} * shape.batch);
    while (rois << work.chunk_bits < kTasks && work.channels >> work.chunk_bits > 8) {
        ++work.chunk_bits;
    }
    const int64_t task = work.channels >> work.chunk_bits;
    const int64_t most = place_bytes(work.channels) / channel_bytes / kBatch * kBatch;
    const int64_t staged = ceil_div(ceil_div(task, ceil_div(task, most)), kBatch) * kBatch;
    work.staged = static_cast<int>(staged);
    work.place = static_cast<int>(
        ceil_div(staged * channel_bytes, kBulkAlignment) * kBulkAlignment / sizeof(T));
    // Bulk copies relieve the load-store unit, the limit for few bins. Plain stores use the L2 less.
    work.bulk = kFew && !pooled.channels_last && staged * channel_bytes % kBulkAlignment == 0 &&
                task * channel_bytes % kBulkAlignment == 0 &&
                shape.channels * channel_bytes % kBulkAlignment == 0;
    return work;
}

// For 16-bit features. kDoesNotFit if the device or the sizes do not allow it.
template <bool kFew, int kOutputs, typename T>
int32_t run_matrix(const Call<T>& call) {
    const Shape& shape = call.shape;
    const bool other_outputs =
        kOutputs > 0 && shape.output_height * shape.output_width != kOutputs;
    const bool too_many = kFew && (shape.output_height > kFewBins || shape.output_width > kFewBins);
    const bool no_tables = call.fragments.windows == nullptr;
    if (other_outputs || too_many || no_tables || call.device.major < 8) {
        return kDoesNotFit;
    }
    const MatrixWork work = share_out<kFew, T>(shape, call.pooled_order, call.device);
    if (work.channels == 0) {
        return kDoesNotFit;
    }
    const int32_t status = launch(
        make_fragments<kFew, T>, ceil_div(shape.rois, kFragmentThreads / kWarp), kFragmentThreads,
        call.stream, call.rois, call.batch_indices, call.fragments, shape, call.sampling);
    if (status != TRTYARD_OK) {
        return status;
    }
    constexpr int kWarps = MatrixWarps<kFew>::kWarps;
    Grid grid(int64_t{work.groups} * shape.batch * work.splits, kWarps * kWarp, call.stream);
    const size_t maps = static_cast<size_t>(work.channels) * shape.height * work.stride;
    grid.shared_bytes = (maps + size_t{2} * kWarps * work.place) * sizeof(T);
    grid.overlaps_prior = call.device.overlaps_launches();
    return launch(
        pool_matrix<kFew, kOutputs, T>, grid, call.features, call.pooled, call.fragments, shape,
        call.pooled_order, work);
}

template <typename T>
int32_t run_on_matrix_units(const Call<T>& call) {
    int32_t status = kDoesNotFit;
    const auto attempt = [&](int32_t (*form)(const Call<T>&)) {
        if (status == kDoesNotFit) {
            status = form(call);
        }
    };
    attempt(run_matrix<true, 49, T>);
    attempt(run_matrix<true, 0, T>);
    attempt(run_matrix<false, 196, T>);
    attempt(run_matrix<false, 0, T>);
    return status;
}

}  // namespace maskrcnn_roi_align
}  // namespace trtyard
