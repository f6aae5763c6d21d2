// MaskRcnnROIAlign on the CPU, for ONNX Runtime. Coordinates as in the kernels.
#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "common/element.cuh"
#include "maskrcnn_roi_align/samples.cuh"

namespace trtyard {
namespace maskrcnn_roi_align {

struct CpuMap {
    int batch, channels, height, width;
};

struct CpuPooling {
    int rows, columns;  // of bins
    float spatial_scale;
    int sampling_ratio;
    bool aligned, maximum;
};

// The samples on the map of all bins along one axis.
class CpuAxis {
public:
    CpuAxis(float low, float high, CpuPooling const& pooling, int bins, int size)
        : axis_(make_axis(
              low, high, pooling.spatial_scale, pooling.sampling_ratio, pooling.aligned, bins)) {
        for (int bin = 0; bin < bins; ++bin) {
            firsts_.push_back(taps_.size());
            const Range range = inside(axis_, bin, size);
            for (int i = range.first; i < range.end; ++i) {
                taps_.push_back(make_tap(sample(axis_, bin, i), size));
                first_cell_ = std::min(first_cell_, taps_.back().low);
                end_cell_ = std::max(end_cell_, taps_.back().high + 1);
            }
        }
        firsts_.push_back(taps_.size());
    }

    int samples() const { return axis_.samples; }
    int first_cell() const { return first_cell_; }
    int end_cell() const { return end_cell_; }
    Tap const* begin(int bin) const { return taps_.data() + firsts_[static_cast<size_t>(bin)]; }
    Tap const* end(int bin) const { return begin(bin + 1); }

    // Whether all samples of the bin are on the map, and there are some.
    bool is_inside(int bin) const {
        return axis_.samples > 0 && end(bin) - begin(bin) == axis_.samples;
    }

private:
    Axis axis_;
    std::vector<Tap> taps_;
    std::vector<size_t> firsts_;  // of each bin, and the end
    int first_cell_ = std::numeric_limits<int>::max();
    int end_cell_ = 0;
};

// The means of a channel. `line` is scratch memory for a row of the map.
template <typename T>
void average_on_cpu(
    const T* plane, int width, CpuAxis const& x, CpuAxis const& y, CpuPooling const& pooling,
    std::vector<float>& line, T* pooled) {
    const float samples = static_cast<float>(x.samples()) * static_cast<float>(y.samples());
    const float divisor = std::max(1.0f, samples);
    for (int row = 0; row < pooling.rows; ++row) {
        std::fill(line.begin(), line.end(), 0.0f);
        for (Tap const* v = y.begin(row); v != y.end(row); ++v) {
            const T* low = plane + static_cast<int64_t>(v->low) * width;
            const T* high = plane + static_cast<int64_t>(v->high) * width;
            for (int cell = x.first_cell(); cell < x.end_cell(); ++cell) {
                line[static_cast<size_t>(cell)] +=
                    v->weight_low * to_float(low[cell]) + v->weight_high * to_float(high[cell]);
            }
        }
        for (int column = 0; column < pooling.columns; ++column) {
            float sum = 0.0f;
            for (Tap const* h = x.begin(column); h != x.end(column); ++h) {
                sum += h->weight_low * line[static_cast<size_t>(h->low)] +
                       h->weight_high * line[static_cast<size_t>(h->high)];
            }
            *pooled++ = from_float<T>(sum / divisor);
        }
    }
}

// The maxima of a channel: a sample is the largest of its four weighted terms, as in the kernels.
template <typename T>
void maximum_on_cpu(
    const T* plane, int width, CpuAxis const& x, CpuAxis const& y, CpuPooling const& pooling,
    T* pooled) {
    for (int row = 0; row < pooling.rows; ++row) {
        for (int column = 0; column < pooling.columns; ++column) {
            // Samples outside the map have the value zero, as does a bin without samples.
            const bool all_inside = y.is_inside(row) && x.is_inside(column);
            float most = all_inside ? -std::numeric_limits<float>::infinity() : 0.0f;
            for (Tap const* v = y.begin(row); v != y.end(row); ++v) {
                const T* low = plane + static_cast<int64_t>(v->low) * width;
                const T* high = plane + static_cast<int64_t>(v->high) * width;
                for (Tap const* h = x.begin(column); h != x.end(column); ++h) {
                    const float terms[] = {
                        v->weight_low * h->weight_low * to_float(low[h->low]),
                        v->weight_low * h->weight_high * to_float(low[h->high]),
                        v->weight_high * h->weight_low * to_float(high[h->low]),
                        v->weight_high * h->weight_high * to_float(high[h->high])};
                    for (const float term : terms) {
                        most = term > most || term != term ? term : most;
                    }
                }
            }
            *pooled++ = from_float<T>(most);
        }
    }
}

// The output [channels, rows, columns] of one roi.
template <typename T>
void pool_roi_on_cpu(
    const T* features, const float* corners, int image, CpuMap const& map,
    CpuPooling const& pooling, T* pooled) {
    const int64_t bins = static_cast<int64_t>(pooling.rows) * pooling.columns;
    const int64_t cells = static_cast<int64_t>(map.height) * map.width;
    const bool is_there = image >= 0 && image < map.batch && cells > 0;
    if (!is_there || !is_in_reach(corners, pooling.spatial_scale)) {
        std::fill(pooled, pooled + map.channels * bins, from_float<T>(0.0f));
        return;
    }
    const CpuAxis x(corners[0], corners[2], pooling, pooling.columns, map.width);
    const CpuAxis y(corners[1], corners[3], pooling, pooling.rows, map.height);
    std::vector<float> line(static_cast<size_t>(map.width));
    for (int channel = 0; channel < map.channels; ++channel) {
        const T* plane = features + (static_cast<int64_t>(image) * map.channels + channel) * cells;
        if (pooling.maximum) {
            maximum_on_cpu(plane, map.width, x, y, pooling, pooled + channel * bins);
        } else {
            average_on_cpu(plane, map.width, x, y, pooling, line, pooled + channel * bins);
        }
    }
}

}  // namespace maskrcnn_roi_align
}  // namespace trtyard
