// RoIAlign by its definition, with one thread for each output element. For maxima, for sizes at which tables do
// not pay off (many bins or few rois), and for everything that the other algorithms do not support.
#include <type_traits>

#include "maskrcnn_roi_align/call.cuh"

namespace trtyard {
namespace maskrcnn_roi_align {

constexpr int kThreads = 256;

// Enough blocks to fill any current device several times; threads loop over the rest.
constexpr int64_t kMaxBlocks = 1 << 20;

// Strides, in elements.
struct Strides {
    int64_t outer, channel, cell;  // of images or rois, of channels, of cells or bins
};

struct DirectWork {
    Order features;
    Strides pooled;
    int written;         // channels of pooled
    bool channel_first;  // whether neighbouring threads take bins of a channel, or channels of a bin
};

// Returns a if it is larger or NaN, else b.
__device__ inline float larger(float a, float b) { return a > b || a != a ? a : b; }

template <typename T>
__device__ float average_bin(
    const T* source, int64_t cell_step, const Shape& shape, const Axis& x, const Axis& y,
    int column, int row) {
    const Range columns = inside(x, column, shape.width);
    const Range rows = inside(y, row, shape.height);
    float sum = 0.0f;
    for (int i = rows.first; i < rows.end; ++i) {
        const Tap v = make_tap(sample(y, row, i), shape.height);
        const T* upper = source + static_cast<int64_t>(v.low) * shape.width * cell_step;
        const T* lower = source + static_cast<int64_t>(v.high) * shape.width * cell_step;
        for (int j = columns.first; j < columns.end; ++j) {
            const Tap h = make_tap(sample(x, column, j), shape.width);
            const int64_t left = h.low * cell_step;
            const int64_t right = h.high * cell_step;
            const float above =
                h.weight_low * to_float(upper[left]) + h.weight_high * to_float(upper[right]);
            const float below =
                h.weight_low * to_float(lower[left]) + h.weight_high * to_float(lower[right]);
            sum += v.weight_low * above + v.weight_high * below;
        }
    }
    // Samples outside the map count in the mean with the value zero.
    return sum / fmaxf(1.0f, static_cast<float>(x.samples) * static_cast<float>(y.samples));
}

// As in ONNX: a sample is the largest of its four weighted terms, not their sum.
template <typename T>
__device__ float maximum_bin(
    const T* source, int64_t cell_step, const Shape& shape, const Axis& x, const Axis& y,
    int column, int row) {
    const Range columns = inside(x, column, shape.width);
    const Range rows = inside(y, row, shape.height);
    const bool all_inside = rows.first == 0 && rows.end == y.samples && columns.first == 0 &&
                            columns.end == x.samples && x.samples > 0 && y.samples > 0;
    // Samples outside the map have the value zero, as does a bin without samples.
    float most = all_inside ? __int_as_float(0xff800000) : 0.0f;
    for (int i = rows.first; i < rows.end; ++i) {
        const Tap v = make_tap(sample(y, row, i), shape.height);
        const T* upper = source + static_cast<int64_t>(v.low) * shape.width * cell_step;
        const T* lower = source + static_cast<int64_t>(v.high) * shape.width * cell_step;
        for (int j = columns.first; j < columns.end; ++j) {
            const Tap h = make_tap(sample(x, column, j), shape.width);
            const int64_t left = h.low * cell_step;
            const int64_t right = h.high * cell_step;
            most = larger(v.weight_low * h.weight_low * to_float(upper[left]), most);
            most = larger(v.weight_low * h.weight_high * to_float(upper[right]), most);
            most = larger(v.weight_high * h.weight_low * to_float(lower[left]), most);
            most = larger(v.weight_high * h.weight_high * to_float(lower[right]), most);
        }
    }
    return most;
}

template <bool kMaximum, typename T, typename Maps>
__global__ void __launch_bounds__(kThreads) pool_direct(
    Maps maps, const float* rois, const int* batch_indices, T* pooled, Shape given,
    Sampling given_sampling, DirectWork work) {
    Shape shape = given;
    Sampling sampling = given_sampling;
    const int64_t bins = static_cast<int64_t>(shape.output_height) * shape.output_width;
    const int64_t items = shape.rois * work.written * bins;
    const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
    for (int64_t item = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; item < items;
         item += stride) {
        const int64_t fast = work.channel_first ? bins : work.written;
        const int64_t rest = item / fast;
        const int64_t slow = work.channel_first ? work.written : bins;
        const int roi = static_cast<int>(rest / slow);
        const int bin = static_cast<int>(work.channel_first ? item % fast : rest % slow);
        const int channel = static_cast<int>(work.channel_first ? rest % slow : item % fast);
        T* target = pooled + roi * work.pooled.outer + channel * work.pooled.channel +
                    bin * work.pooled.cell;
        const int image = batch_indices[roi];
        const float* corners = rois + static_cast<int64_t>(roi) * 4;
        const int level = maps.level_of(corners);
        const T* features = static_cast<const T*>(maps.select(max(level, 0), shape, sampling));
        const bool pooled_to_zero = channel >= shape.channels || level < 0 ||
                                    is_padding(image, corners, shape, sampling);
        if (pooled_to_zero) {
            *target = from_float<T>(0.0f);
            continue;
        }
        const int64_t cells = static_cast<int64_t>(shape.height) * shape.width;
        const int64_t features_outer = cells * work.features.pitch;
        const int64_t features_channel = work.features.channels_last ? 1 : cells;
        const Axis x = make_roi_axis(corners, false, shape, sampling);
        const Axis y = make_roi_axis(corners, true, shape, sampling);
        const T* source =
            features + image * features_outer + channel * features_channel;
        const int64_t cell_step = work.features.channels_last ? work.features.pitch : 1;
        const int column = bin % shape.output_width;
        const int row = bin / shape.output_width;
        *target = from_float<T>(
            kMaximum ? maximum_bin(source, cell_step, shape, x, y, column, row)
                     : average_bin(source, cell_step, shape, x, y, column, row));
    }
}

Strides strides_of(const Order& order, int64_t cells) {
    return order.channels_last ? Strides{cells * order.pitch, 1, order.pitch}
                               : Strides{cells * order.pitch, cells, 1};
}

template <typename T>
int32_t run_direct(const Call<T>& call) {
    const Shape& shape = call.shape;
    const int64_t bins = static_cast<int64_t>(shape.output_height) * shape.output_width;
    DirectWork work{};
    work.features = call.features_order;
    work.pooled = strides_of(call.pooled_order, bins);
    work.written = call.pooled_order.pitch;
    work.channel_first = !call.features_order.channels_last && !call.pooled_order.channels_last;
    const int64_t wanted = ceil_div(static_cast<int64_t>(shape.rois) * work.written * bins, kThreads);
    const int64_t blocks = wanted < kMaxBlocks ? wanted : kMaxBlocks;
    return call.with_maps([&](const auto& maps) {
        using Maps = typename std::decay<decltype(maps)>::type;
        return launch(
            call.maximum ? pool_direct<true, T, Maps> : pool_direct<false, T, Maps>, blocks,
            kThreads, call.stream, maps, call.rois, call.batch_indices, call.pooled, shape,
            call.sampling, work);
    });
}

#define TRTYARD_INSTANTIATE(T) template int32_t run_direct<T>(const Call<T>&);
TRTYARD_FOR_EACH_TYPE(TRTYARD_INSTANTIATE)

}  // namespace maskrcnn_roi_align
}  // namespace trtyard
