// The kernel that computes the weights of every roi.
#include "common/launch.cuh"
#include "maskrcnn_roi_align/tables.cuh"
#include "multiscale_roi_align/pyramid.cuh"

namespace trtyard {
namespace maskrcnn_roi_align {

// One warp for each roi, one lane for each bin.
template <typename Maps>
__global__ void __launch_bounds__(kTableThreads) make_tables(
    Maps maps, const float* rois, const int* batch_indices, Tables tables, Shape shape,
    Sampling sampling) {
    let_next_kernel_start();
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const int roi = static_cast<int>(
        (static_cast<int64_t>(blockIdx.x) * kTableThreads + threadIdx.x) / kWarp);
    if (roi >= shape.rois) {
        return;
    }
    const int image = batch_indices[roi];
    const float* corners = rois + static_cast<int64_t>(roi) * 4;
    const int level = maps.level_of(corners);
    (void)maps.select(max(level, 0), shape, sampling);
    const bool padded = level < 0 || is_padding(image, corners, shape, sampling);
    const bool vertical = lane >= kMaxBins;
    const int bin = lane % kMaxBins;
    const int size = vertical ? shape.height : shape.width;
    const int bins = vertical ? shape.output_height : shape.output_width;

    float weights[kMaxTaps] = {};
    int first = 0;
    int taps = 0;
    if (!padded && bin < bins) {
        const Axis axis = make_roi_axis(corners, vertical, shape, sampling);
        const Range range = inside(axis, bin, size);
        if (range.first < range.end) {
            const int one = make_tap(sample(axis, bin, range.first), size).low;
            const int other = make_tap(sample(axis, bin, range.end - 1), size).low;
            first = min(one, other);
            taps = min(max(one, other) + 1, size - 1) - first + 1;
        } else if (axis.samples > 0 && sample(axis, bin, 0) > static_cast<float>(size)) {
            first = size - 1;  // after the map: keeps the bins in order
        }
        if (taps <= kMaxTaps) {
            for (int i = range.first; i < range.end; ++i) {
                const Tap tap = make_tap(sample(axis, bin, i), size);
                const int low = tap.low - first;
#pragma unroll
                for (int k = 0; k < kMaxTaps; ++k) {
                    weights[k] += k == low ? tap.weight_low : 0.0f;
                    weights[k] += k == low + 1 ? tap.weight_high : 0.0f;
                }
            }
            // Samples outside the map count in the mean with the value zero.
            const float share = __fdiv_rn(1.0f, static_cast<float>(max(1, axis.samples)));
#pragma unroll
            for (int k = 0; k < kMaxTaps; ++k) {
                weights[k] *= share;
            }
        }
    }

    const int before = __shfl_up_sync(kFullWarp, first, 1);
    const bool in_order =
        __all_sync(kFullWarp, bin == 0 || bin >= bins || first >= before) != 0;
    int most = taps;
    for (int step = kMaxBins / 2; step > 0; step /= 2) {
        most = max(most, __shfl_xor_sync(kFullWarp, most, step));
    }
    const int columns = __shfl_sync(kFullWarp, most, 0);
    const int rows = __shfl_sync(kFullWarp, most, kMaxBins);
    const int larger = max(columns, rows);
    const Form form = larger <= kWindowTaps && in_order ? kWindowForm
                      : larger <= kMaxTaps              ? kLoopForm
                                                        : kSampleForm;
    if (lane == 0) {
        tables.headers[roi] = {
            padded ? kPadded : image, static_cast<int16_t>(form), static_cast<int16_t>(level),
            columns, rows};
    }
    if (bin >= bins) {
        first = kNoRow;
    }
    const int64_t row = static_cast<int64_t>(roi) * kWarp;
    tables.heads[row + lane] =
        make_float4(__int_as_float(first), weights[0], weights[1], weights[2]);
    if (form == kLoopForm) {
        float4* tails = tables.tails + row * 2 + (lane - bin) * 2 + bin;
        tails[0] = make_float4(weights[3], weights[4], weights[5], weights[6]);
        tails[kMaxBins] = make_float4(weights[7], weights[8], weights[9], weights[10]);
    }
}

int32_t make_tables_of(
    const float* rois, const int32_t* batch_indices, const Tables& tables, const Shape& shape,
    const Sampling& sampling, const Pyramid* pyramid, void* stream) {
    const int64_t blocks = ceil_div(shape.rois, kTableThreads / kWarp);
    return pyramid == nullptr
               ? launch(
                     make_tables<OneMap>, blocks, kTableThreads, stream, OneMap{}, rois,
                     batch_indices, tables, shape, sampling)
               : launch(
                     make_tables<Pyramid>, blocks, kTableThreads, stream, *pyramid, rois,
                     batch_indices, tables, shape, sampling);
}

}  // namespace maskrcnn_roi_align
}  // namespace trtyard
