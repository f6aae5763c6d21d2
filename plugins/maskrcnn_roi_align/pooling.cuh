// How a warp pools one roi of features with channels first, in shared or device memory. A lane computes one
// output column of some channels.
//
// A source S of cells has
//   kPairs                         channels of a lane
//   window(cell, column, row)      for each channel the weighted sum of three cells, starting at cell +
//                                  the column's first one
//   at(j, cell)                    a cell of channel j
#pragma once

#include "maskrcnn_roi_align/call.cuh"

namespace trtyard {
namespace maskrcnn_roi_align {

// The state of a lane for any roi.
template <typename S, typename T>
struct Lane {
    S source;           // the lane's channels of the map
    T* staged;          // the lane's column of its first channel
    int height, width, output_height, output_width, outputs;
};

template <typename S>
struct Row {
    float value[S::kPairs];
};

// kWindowForm. Each row of the map under the roi is read once; a bin is a sum over the last three rows.
template <int kOutputs, typename S, typename T>
__device__ void pool_window(const Lane<S, T>& lane, const float4& column, const float4* bins) {
    const int outputs = kOutputs > 0 ? kOutputs : lane.outputs;
    float4 head = bins[0];
    const float4* next_bin = bins + 1;
    const int last = __float_as_int(bins[lane.output_height - 1].x);
    int top = __float_as_int(head.x);  // first row of the bins that are written next
    int cell = top * lane.width;
    const int last_cell = (lane.height - 1) * lane.width;
    T* target = lane.staged;

    const auto read = [&] {
        Row<S> row;
        lane.source.window(cell, column, row.value);
        cell = min(cell + lane.width, last_cell);  // the last row again, with weights of zero
        return row;
    };
    // Writes the bins of these three rows; kNoRow is after the last bin.
    const auto write = [&](const Row<S>& first, const Row<S>& second, const Row<S>& third) {
        while (__float_as_int(head.x) == top) {
            T values[S::kPairs];
#pragma unroll
            for (int j = 0; j < S::kPairs; ++j) {
                values[j] = from_float<T>(
                    head.y * first.value[j] + head.z * second.value[j] + head.w * third.value[j]);
            }
            head = *next_bin++;  // before the stores: the compiler may not move a read before them
#pragma unroll
            for (int j = 0; j < S::kPairs; ++j) {
                target[j * outputs] = values[j];
            }
            target += lane.output_width;
        }
        return ++top <= last;
    };

    Row<S> a = read();
    Row<S> b = read();
    Row<S> c = read();
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

// kLoopForm. Each bin reads its rows; neighbouring bins share at most two.
template <typename S, typename T>
__device__ void pool_loop(
    const Lane<S, T>& lane, const float4& column, const float4* bins, const float4* tails,
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
        float sum[S::kPairs] = {};
        for (int i = 0; i < header.rows; ++i) {
            const int tail = i - kWindowTaps;
            const float vertical =
                i == 0   ? head.y
                : i == 1 ? head.z
                : i == 2 ? head.w
                         : row_tails[(tail / 4 * kMaxBins + bin) * 4 + tail % 4];
            const int cells = min(top + i, lane.height - 1) * lane.width;
            float row[S::kPairs] = {};
#pragma unroll
            for (int k = 0; k < kMaxTaps; ++k) {
                if (k < header.columns) {
                    const int cell = cells + min(first + k, lane.width - 1);
#pragma unroll
                    for (int j = 0; j < S::kPairs; ++j) {
                        row[j] += weights[k] * lane.source.at(j, cell);
                    }
                }
            }
#pragma unroll
            for (int j = 0; j < S::kPairs; ++j) {
                sum[j] += vertical * row[j];
            }
        }
#pragma unroll
        for (int j = 0; j < S::kPairs; ++j) {
            target[j * lane.outputs] = from_float<T>(sum[j]);
        }
        target += lane.output_width;
    }
}

// kLoopForm with bins of up to kFewTaps cells on both axes. The loads of a row of a bin are independent.
template <typename S, typename T>
__device__ void pool_taps(
    const Lane<S, T>& lane, const float4& column, const float4* bins, const float4* tails,
    int part_lane) {
    const float across[kFewTaps] = {column.y, column.z, column.w, tails[part_lane].x};
    const float* row_tails = reinterpret_cast<const float*>(tails + kWarp);
    int columns[kFewTaps];
#pragma unroll
    for (int k = 0; k < kFewTaps; ++k) {
        columns[k] = min(__float_as_int(column.x) + k, lane.width - 1);
    }
    T* target = lane.staged;
    for (int bin = 0; bin < lane.output_height; ++bin) {
        const float4 head = bins[bin];
        const float down[kFewTaps] = {head.y, head.z, head.w, row_tails[bin * 4]};
        const int top = __float_as_int(head.x);
        float sum[S::kPairs] = {};
#pragma unroll
        for (int i = 0; i < kFewTaps; ++i) {
            const int begin = min(top + i, lane.height - 1) * lane.width;
            float row[S::kPairs] = {};
#pragma unroll
            for (int k = 0; k < kFewTaps; ++k) {
#pragma unroll
                for (int j = 0; j < S::kPairs; ++j) {
                    row[j] += across[k] * lane.source.at(j, begin + columns[k]);
                }
            }
#pragma unroll
            for (int j = 0; j < S::kPairs; ++j) {
                sum[j] += down[i] * row[j];
            }
        }
#pragma unroll
        for (int j = 0; j < S::kPairs; ++j) {
            target[j * lane.outputs] = from_float<T>(sum[j]);
        }
        target += lane.output_width;
    }
}

// kSampleForm. Sample by sample, for rois whose bins cover more cells than a table holds.
template <typename S, typename T>
__device__ __noinline__ void pool_samples(
    const Lane<S, T> lane, const float* corners, int column, const Shape shape,
    const Sampling sampling) {  // by value: a reference would keep the caller's copy in memory
    const Axis x = make_roi_axis(corners, false, shape, sampling);
    const Axis y = make_roi_axis(corners, true, shape, sampling);
    const Range columns = inside(x, column, lane.width);
    const float samples = fmaxf(1.0f, static_cast<float>(x.samples) * static_cast<float>(y.samples));
    T* target = lane.staged;
    for (int bin = 0; bin < lane.output_height; ++bin) {
        const Range rows = inside(y, bin, lane.height);
        float sum[S::kPairs] = {};
        for (int i = rows.first; i < rows.end; ++i) {
            const Tap v = make_tap(sample(y, bin, i), lane.height);
            for (int k = columns.first; k < columns.end; ++k) {
                const Tap h = make_tap(sample(x, column, k), lane.width);
                const int upper = v.low * lane.width;
                const int lower = v.high * lane.width;
#pragma unroll
                for (int j = 0; j < S::kPairs; ++j) {
                    const float above = h.weight_low * lane.source.at(j, upper + h.low) +
                                        h.weight_high * lane.source.at(j, upper + h.high);
                    const float below = h.weight_low * lane.source.at(j, lower + h.low) +
                                        h.weight_high * lane.source.at(j, lower + h.high);
                    sum[j] += v.weight_low * above + v.weight_high * below;
                }
            }
        }
#pragma unroll
        for (int j = 0; j < S::kPairs; ++j) {
            target[j * lane.outputs] = from_float<T>(sum[j] / samples);
        }
        target += lane.output_width;
    }
}

}  // namespace maskrcnn_roi_align
}  // namespace trtyard
