// RoIAlign of float32 with the map in shared memory. A block holds the whole map of a few channels of one
// image and pools all rois of the image from it, so features are read once for any number of rois. A warp
// computes a roi, a lane one output column of kPairs channels.
#include "maskrcnn_roi_align/pooling.cuh"
#include "maskrcnn_roi_align/stores.cuh"

namespace trtyard {
namespace maskrcnn_roi_align {

constexpr int kMaxWarps = 24;  // of a block: leaves 80 registers for a thread

// kLanes: lanes for the columns of one channel (8 or 16); the 32 / kLanes parts of a warp take
// kPairs channels each. kStride: floats from one channel's map to the next; a constant, so that
// channels are immediate offsets, and chosen so that the parts read different banks of shared memory.
template <int kLanes_, int kPairs_, int kStride_>
struct Layout {
    static constexpr int kLanes = kLanes_;
    static constexpr int kPairs = kPairs_;
    static constexpr int kStride = kStride_;
    static constexpr int kParts = kWarp / kLanes;
    static constexpr int kChannels = kParts * kPairs;
    static constexpr int kMapFloats = kChannels * kStride;
    // A window reads up to two cells after the last one, with weights of zero.
    static constexpr int kMaxPlane = kStride - (kWindowTaps - 1);
    static_assert(kPairs * kStride % 32 == kLanes, "the parts must lie in other banks");
    static_assert(kStride % 2 == 0, "the map is written two floats at a time");
};

struct Work {
    int groups;  // of channels in an image
    int splits;  // of the rois of a group, one block each
    int draw;    // rois that a warp checks at once
    unsigned vectors_inverse;  // inverse of the number of 16-byte vectors in a map
};

// A lane's channels in shared memory.
template <typename L>
struct ResidentCells {
    static constexpr int kPairs = L::kPairs;
    const float* maps;

    __device__ void window(int cell, const float4& column, float (&row)[kPairs]) const {
        const float* cells = maps + __float_as_int(column.x) + cell;
#pragma unroll
        for (int j = 0; j < kPairs; ++j) {
            const float* at = cells + j * L::kStride;
            row[j] = column.y * at[0] + column.z * at[1] + column.w * at[2];
        }
    }

    __device__ float at(int j, int cell) const { return maps[j * L::kStride + cell]; }
};

// Reads the group's maps. Channels after the last one and cells after a map become zeros, because they are
// multiplied by weights of zero and must not be NaN or infinity.
template <typename L>
__device__ void load_maps(
    const float* source, float* maps, int channels, int plane, unsigned vectors_inverse) {
    constexpr int kVector = sizeof(uint4) / sizeof(float);
    const int thread = static_cast<int>(threadIdx.x);
    const int threads = static_cast<int>(blockDim.x);
    const bool aligned = reinterpret_cast<uintptr_t>(source) % sizeof(uint4) == 0;
    if (aligned && plane % kVector == 0 && plane > kVector) {
        const int vectors = plane / kVector;
        const int all = channels * vectors;
        const float4* packed = reinterpret_cast<const float4*>(source);
        constexpr int kDepth = 4;
        for (int base = thread; base < all; base += kDepth * threads) {
            float4 values[kDepth];
#pragma unroll
            for (int i = 0; i < kDepth; ++i) {
                const int item = base + i * threads;
                values[i] = item < all ? packed[item] : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
            }
#pragma unroll
            for (int i = 0; i < kDepth; ++i) {
                const int item = base + i * threads;
                if (item < all) {
                    const int channel = divide(item, vectors_inverse);
                    float* target =
                        maps + channel * L::kStride + (item - channel * vectors) * kVector;
                    reinterpret_cast<float2*>(target)[0] = make_float2(values[i].x, values[i].y);
                    reinterpret_cast<float2*>(target)[1] = make_float2(values[i].z, values[i].w);
                }
            }
        }
    } else {
        for (int item = thread; item < channels * plane; item += threads) {
            const int channel = item / plane;
            maps[channel * L::kStride + item - channel * plane] = source[item];
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

// Whether bulk copies instead of the warp store a task. Bulk copies relieve the load-store unit, which is the
// limit for few bins. Plain stores are faster if memory is the limit.
template <typename L>
struct StoresInBulk {
    static constexpr bool value = TRTYARD_HAS_BULK_COPY != 0 && L::kLanes < 16;
};

// A separate function, so that a rare case takes no registers from the others.
__device__ __noinline__ void store_last(
    float* target, const float* source, int first, int count, int outputs, int pitch, int lane) {
    if (source == nullptr) {
        store_zeros_last(target, first, count, outputs, pitch, lane);
    } else {
        store_channels_last(target, source, first, count, outputs, pitch, lane);
    }
}

// One block for each image, group of channels and split of the rois.
template <typename L, int kOutputs>
__global__ void __launch_bounds__(kMaxWarps * kWarp, 1) pool_resident(
    const float* features, const float* rois, float* pooled, Tables tables, Shape shape,
    Sampling sampling, Order order, Work work) {
    extern __shared__ uint4 shared[];
    __shared__ int next_draw;
    const int outputs = kOutputs > 0 ? kOutputs : shape.output_height * shape.output_width;
    const size_t staged = staged_bytes(L::kChannels, outputs, sizeof(float));
    float* maps = reinterpret_cast<float*>(shared);
    char* behind = reinterpret_cast<char*>(maps + L::kMapFloats);
    const int warp = static_cast<int>(threadIdx.x) / kWarp;
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const size_t task_bytes = staged + kBinTable * sizeof(float4);
    float4* bins = reinterpret_cast<float4*>(behind + warp * task_bytes);
    float* stage = reinterpret_cast<float*>(bins + kBinTable);

    const int split = static_cast<int>(blockIdx.x) % work.splits;
    const int group = static_cast<int>(blockIdx.x) / work.splits % work.groups;
    const int image = static_cast<int>(blockIdx.x) / work.splits / work.groups;
    const int first_channel = group * L::kChannels;
    // The channels to read, and the channels to write: the latter include padding with channels last.
    const int channels = max(0, min(L::kChannels, shape.channels - first_channel));
    const int written =
        order.channels_last ? min(L::kChannels, order.pitch - first_channel) : channels;
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
    // Lanes after the last column repeat its work, with the same reads and writes.
    const int part_lane = min(lane % L::kLanes, shape.output_width - 1);
    Lane<ResidentCells<L>, float> own;
    own.source.maps = maps + part * L::kPairs * L::kStride;
    own.staged = stage + part * L::kPairs * outputs + part_lane;
    own.height = shape.height;
    own.width = shape.width;
    own.output_height = shape.output_height;
    own.output_width = shape.output_width;
    own.outputs = outputs;

    const int begin = static_cast<int>(static_cast<int64_t>(shape.rois) * split / work.splits);
    const int end = static_cast<int>(static_cast<int64_t>(shape.rois) * (split + 1) / work.splits);
    const int draws = (end - begin + work.draw - 1) / work.draw;
    // The part of pooled that this block writes for the roi; with channels last, its first bin.
    const auto target_of = [&](int64_t roi) {
        return pooled + (roi * order.pitch + (order.channels_last ? 0 : first_channel)) * outputs;
    };

    // The remaining rois of a draw, and the next task's data, which are read while one task runs.
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
                float* target = target_of(roi);
                if (order.channels_last) {
                    store_last(
                        target, nullptr, first_channel, written, outputs, order.pitch, lane);
                } else {
                    store_zeros(target, written * outputs, lane);
                }
            }
        }
        const int source = __ffs(static_cast<int>(alive)) - 1;
        alive &= alive - 1;
        next_roi = first_roi + source;
        next_form = __shfl_sync(kFullWarp, static_cast<int>(header.form), source);
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
            pool_window<kOutputs>(own, own_column, bins);
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
        float* target = target_of(roi);
        if (order.channels_last) {
            store_last(target, stage, first_channel, written, outputs, order.pitch, lane);
        } else {
            store_task<StoresInBulk<L>::value>(target, stage, written * outputs, lane);
        }
        __syncwarp();
    }
#if TRTYARD_HAS_BULK_COPY
    if (lane == 0) {
        wait_bulk_reads<0>();  // shared memory is released when the block ends
    }
#endif
}

constexpr int kFewestWarps = 4;  // with fewer, the latency of reads is visible

// Tables, then pooling with this layout; kDoesNotFit if the map or the stages do not fit.
template <typename L, int kOutputs>
int32_t run_layout(const Call<float>& call) {
    const Shape& shape = call.shape;
    const int outputs = shape.output_height * shape.output_width;
    const bool other_outputs = kOutputs > 0 && outputs != kOutputs;
    if (other_outputs || shape.output_width > L::kLanes ||
        static_cast<int64_t>(shape.height) * shape.width > L::kMaxPlane) {
        return kDoesNotFit;
    }
    const int64_t staged = static_cast<int64_t>(staged_bytes(L::kChannels, outputs, sizeof(float)));
    const int64_t fixed = static_cast<int64_t>(sizeof(float)) * L::kMapFloats;
    const int64_t task = staged + static_cast<int64_t>(kBinTable * sizeof(float4));
    const int64_t own = 256;  // static shared memory, rounded up
    int64_t warps = (call.device.shared_bytes - own - fixed) / task;
    if (warps < kFewestWarps) {
        return kDoesNotFit;
    }
    warps = warps < kMaxWarps ? warps : kMaxWarps;
    const int64_t groups = ceil_div(call.pooled_order.pitch, L::kChannels);
    const int64_t blocks = groups * shape.batch;
    int64_t splits = call.device.multiprocessors / blocks;
    const int64_t most_splits = ceil_div(shape.rois, warps);
    splits = splits < most_splits ? splits : most_splits;
    splits = splits > 1 ? splits : 1;
    // On average, one roi of the block's image in a draw.
    const int draw = shape.batch < kWarp ? shape.batch : kWarp;
    const int64_t vectors = static_cast<int64_t>(shape.height) * shape.width / 4;
    const int32_t status = call.make_tables();
    if (status != TRTYARD_OK) {
        return status;
    }
    Grid grid(blocks * splits, static_cast<int>(warps) * kWarp, call.stream);
    grid.shared_bytes = static_cast<size_t>(fixed + task * warps);
    grid.overlaps_prior = call.device.overlaps_launches();
    return launch(
        pool_resident<L, kOutputs>, grid, call.features, call.rois, call.pooled, call.tables, shape,
        call.sampling, call.pooled_order,
        Work{static_cast<int>(groups), static_cast<int>(splits), draw, inverse_of(static_cast<unsigned>(vectors))});
}

// The layouts, fastest first: as many channels in a block as fit, because they share a roi's table.
template <>
int32_t run_resident<float>(const Call<float>& call) {
    int32_t status = kDoesNotFit;
    const auto attempt = [&](int32_t (*form)(const Call<float>&)) {
        if (status == kDoesNotFit) {
            status = form(call);
        }
    };
    attempt(run_layout<Layout<8, 4, 2562>, 49>);
    attempt(run_layout<Layout<16, 4, 2564>, 196>);
    attempt(run_layout<Layout<8, 4, 2562>, 0>);
    attempt(run_layout<Layout<16, 4, 2564>, 0>);
    attempt(run_layout<Layout<16, 2, 5128>, 0>);
    attempt(run_layout<Layout<16, 1, 10256>, 0>);
    return status;
}

}  // namespace maskrcnn_roi_align
}  // namespace trtyard
