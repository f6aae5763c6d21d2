// RoIAlign of features of any size with channels first. A warp computes a roi and some channels, and reads the
// map from device memory. A map that fits into shared memory is faster there (resident.cu).
#include <type_traits>

#include "maskrcnn_roi_align/pooling.cuh"
#include "maskrcnn_roi_align/stores.cuh"

namespace trtyard {
namespace maskrcnn_roi_align {

constexpr int kStreamWarps = 8;
constexpr int kStreamBlocks = 3;  // per multiprocessor: leaves 80 registers for a thread

// kLanes: lanes for the columns of one channel; the 32 / kLanes parts of a warp have kPairs channels each.
template <int kLanes_>
struct Parts {
    static constexpr int kLanes = kLanes_;
    static constexpr int kPairs = 4;
    static constexpr int kChannels = kWarp / kLanes * kPairs;
};

struct StreamWork {
    int groups;           // of channels, one warp each
    int parts;            // blocks that share them
    bool channels_apart;  // as in Call
};

// A lane's channels in device memory.
template <typename T>
struct StreamedCells {
    static constexpr int kPairs = 4;
    const T* maps[kPairs];

    __device__ void window(int cell, const float4& column, float (&row)[kPairs]) const {
        const int first = __float_as_int(column.x) + cell;
#pragma unroll
        for (int j = 0; j < kPairs; ++j) {
            const T* at = maps[j] + first;
            row[j] = column.y * to_float(at[0]) + column.z * to_float(at[1]) +
                     column.w * to_float(at[2]);
        }
    }

    __device__ float at(int j, int cell) const { return to_float(maps[j][cell]); }
};

// Moves the three cells so that all are in a row of `width` cells (at least 3); the weights move along.
__device__ inline float4 within(const float4& column, int width) {
    const int first = __float_as_int(column.x);
    const int shift = first - (width - kWindowTaps);
    if (shift <= 0) {
        return column;
    }
    const float4 by_one = make_float4(column.x, 0.0f, column.y, column.z);
    const float4 by_two = make_float4(column.x, 0.0f, 0.0f, column.y);
    float4 moved = shift == 1 ? by_one : by_two;
    moved.x = __int_as_float(width - kWindowTaps);
    return moved;
}

template <typename P, typename T, typename Maps>
__global__ void __launch_bounds__(kStreamWarps * kWarp, kStreamBlocks) pool_streamed(
    Maps maps, const float* rois, T* pooled, Tables tables, Shape shape, Sampling sampling,
    Order order, StreamWork work) {
    extern __shared__ uint4 shared[];
    const int outputs = shape.output_height * shape.output_width;
    const size_t task_bytes =
        staged_bytes(P::kChannels, outputs, sizeof(T)) + kBinTable * sizeof(float4);
    const int warp = static_cast<int>(threadIdx.x) / kWarp;
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    float4* bins = reinterpret_cast<float4*>(reinterpret_cast<char*>(shared) + warp * task_bytes);
    T* stage = reinterpret_cast<T*>(bins + kBinTable);

    const int block = static_cast<int>(blockIdx.x);
    const int64_t roi = work.channels_apart ? block % shape.rois : block / work.parts;
    const int part_of_roi = work.channels_apart ? block / shape.rois : block % work.parts;
    const int group = part_of_roi * static_cast<int>(blockDim.x) / kWarp + warp;
    const int first_channel = group * P::kChannels;
    wait_for_prior_kernel();  // the tables
    if (group >= work.groups) {
        return;
    }
    const int written =
        min(P::kChannels, (order.channels_last ? order.pitch : shape.channels) - first_channel);
    const Header header = tables.headers[roi];
    T* target = pooled + roi * order.pitch * outputs;
    if (!order.channels_last) {
        target += static_cast<int64_t>(first_channel) * outputs;
    }
    if (header.image == kPadded) {
        if (order.channels_last) {
            store_zeros_last(target, first_channel, written, outputs, order.pitch, lane);
        } else {
            store_zeros(target, written * outputs, lane);
        }
        return;
    }

    const T* features = static_cast<const T*>(maps.select(header.level, shape, sampling));
    const int part = lane / P::kLanes;
    // Lanes after the last column or the last channel repeat its work.
    const int part_lane = min(lane % P::kLanes, shape.output_width - 1);
    const int64_t plane = static_cast<int64_t>(shape.height) * shape.width;
    Lane<StreamedCells<T>, T> own;
#pragma unroll
    for (int j = 0; j < P::kPairs; ++j) {
        const int channel = min(first_channel + part * P::kPairs + j, shape.channels - 1);
        own.source.maps[j] =
            features + (static_cast<int64_t>(header.image) * shape.channels + channel) * plane;
    }
    own.staged = stage + part * P::kPairs * outputs + part_lane;
    own.height = shape.height;
    own.width = shape.width;
    own.output_height = shape.output_height;
    own.output_width = shape.output_width;
    own.outputs = outputs;

    const float4* heads = tables.heads + roi * kWarp;
    const float4 column = heads[part_lane];
    if (lane < kBinTable) {
        bins[lane] = lane < kMaxBins ? heads[kMaxBins + lane]
                                     : make_float4(__int_as_float(kNoRow), 0.0f, 0.0f, 0.0f);
    }
    __syncwarp();
    if (header.form == kWindowForm) {
        pool_window<0>(own, within(column, shape.width), bins);
    } else if (header.form == kLoopForm && header.columns <= kFewTaps && header.rows <= kFewTaps) {
        pool_taps(own, column, bins, tables.tails + roi * 2 * kWarp, part_lane);
    } else if (header.form == kLoopForm) {
        pool_loop(own, column, bins, tables.tails + roi * 2 * kWarp, part_lane, header);
    } else {
        pool_samples(own, rois + roi * 4, part_lane, shape, sampling);
    }
    __syncwarp();
    if (order.channels_last) {
        // Padded channels hold the values of the last channel.
        const int real = max(0, min(written, shape.channels - first_channel));
        for (int i = real * outputs + lane; i < written * outputs; i += kWarp) {
            stage[i] = from_float<T>(0.0f);
        }
        __syncwarp();
        store_channels_last(
            target, stage, first_channel, written, outputs, order.pitch, lane);
    } else {
        store_task<false>(target, stage, written * outputs, lane);
    }
}

template <typename P, typename T>
int32_t run_parts(const Call<T>& call) {
    const Shape& shape = call.shape;
    const int outputs = shape.output_height * shape.output_width;
    StreamWork work{};
    work.groups = static_cast<int>(ceil_div(call.pooled_order.pitch, P::kChannels));
    work.parts = static_cast<int>(ceil_div(work.groups, kStreamWarps));
    work.channels_apart = call.channels_apart();
    const int warps = static_cast<int>(ceil_div(work.groups, work.parts));
    Grid grid(static_cast<int64_t>(shape.rois) * work.parts, warps * kWarp, call.stream);
    grid.shared_bytes =
        warps * (staged_bytes(P::kChannels, outputs, sizeof(T)) + kBinTable * sizeof(float4));
    if (static_cast<int64_t>(grid.shared_bytes) > call.device.shared_bytes) {
        return kDoesNotFit;
    }
    grid.overlaps_prior = call.device.overlaps_launches();
    const int32_t status = call.make_tables();
    return status != TRTYARD_OK ? status : call.with_maps([&](const auto& maps) {
        using Maps = typename std::decay<decltype(maps)>::type;
        return launch(
            pool_streamed<P, T, Maps>, grid, maps, call.rois, call.pooled, call.tables, shape,
            call.sampling, call.pooled_order, work);
    });
}

template <typename T>
int32_t run_streamed(const Call<T>& call) {
    if (!call.for_all_maps([](const void*, int, int width) { return width >= kWindowTaps; })) {
        return kDoesNotFit;
    }
    return call.shape.output_width <= 8 ? run_parts<Parts<8>>(call) : run_parts<Parts<16>>(call);
}

#define TRTYARD_INSTANTIATE(T) template int32_t run_streamed<T>(const Call<T>&);
TRTYARD_FOR_EACH_TYPE(TRTYARD_INSTANTIATE)

}  // namespace maskrcnn_roi_align
}  // namespace trtyard
