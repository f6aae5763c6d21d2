// MaskRcnnROIAlign: the mean of bilinear samples in each bin of each roi. See README.md.
//
// One thread an output element. Coordinates and sums are float32 whatever the features are.
#include "common/element.cuh"
#include "common/launch.cuh"
#include "maskrcnn_roi_align/samples.cuh"

// Named, not anonymous: nvcc would name an anonymous one after the folder it is run in, and the same
// sources would give other bytes elsewhere.
namespace trtyard {
namespace maskrcnn_roi_align {

constexpr int kThreads = 256;

// Enough blocks to fill any device of today many times over; threads loop over the rest.
constexpr int64_t kMaxBlocks = 1 << 20;

struct Shape {
    int batch, channels, height, width, rois, output_height, output_width;

    bool empty_output() const {
        return rois == 0 || channels == 0 || output_height == 0 || output_width == 0;
    }
};

template <typename T>
__global__ void __launch_bounds__(kThreads) roi_align(
    const T* features, const float* rois, const int* batch_indices, T* pooled, Shape shape,
    float spatial_scale, int sampling_ratio, bool aligned) {
    const int64_t bins = static_cast<int64_t>(shape.output_height) * shape.output_width;
    const int64_t plane = static_cast<int64_t>(shape.height) * shape.width;
    const int64_t items = shape.rois * shape.channels * bins;
    const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
    for (int64_t item = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; item < items;
         item += stride) {
        const int64_t map = item / bins;
        const int bin = static_cast<int>(item % bins);
        const int roi = static_cast<int>(map / shape.channels);
        const int channel = static_cast<int>(map % shape.channels);
        const int image = batch_indices[roi];
        if (image < 0 || image >= shape.batch) {
            pooled[item] = from_float<T>(0.0f);
            continue;
        }
        const float* corners = rois + static_cast<int64_t>(roi) * 4;
        const Axis x = make_axis(
            corners[0], corners[2], spatial_scale, sampling_ratio, aligned, shape.output_width);
        const Axis y = make_axis(
            corners[1], corners[3], spatial_scale, sampling_ratio, aligned, shape.output_height);
        const int column = bin % shape.output_width;
        const int row = bin / shape.output_width;
        const Range columns = inside(x, column, shape.width);
        const Range rows = inside(y, row, shape.height);

        const T* source =
            features + (static_cast<int64_t>(image) * shape.channels + channel) * plane;
        float sum = 0.0f;
        for (int i = rows.first; i < rows.end; ++i) {
            const Tap v = make_tap(sample(y, row, i), shape.height);
            const T* upper = source + static_cast<int64_t>(v.low) * shape.width;
            const T* lower = source + static_cast<int64_t>(v.high) * shape.width;
            for (int j = columns.first; j < columns.end; ++j) {
                const Tap h = make_tap(sample(x, column, j), shape.width);
                const float above =
                    h.weight_low * to_float(upper[h.low]) + h.weight_high * to_float(upper[h.high]);
                const float below =
                    h.weight_low * to_float(lower[h.low]) + h.weight_high * to_float(lower[h.high]);
                sum += v.weight_low * above + v.weight_high * below;
            }
        }
        // Samples outside the map count in the mean, with the value zero.
        const float samples =
            fmaxf(1.0f, static_cast<float>(x.samples) * static_cast<float>(y.samples));
        pooled[item] = from_float<T>(sum / samples);
    }
}

int32_t check_shape(const Shape& shape) {
    const bool good = shape.batch >= 0 && shape.channels >= 0 && shape.height >= 0 &&
                      shape.width >= 0 && shape.rois >= 0 && shape.output_height >= 0 &&
                      shape.output_width >= 0;
    if (!good) {
        return TRTYARD_BAD_ARGUMENT;
    }
    const bool fits =
        static_cast<int64_t>(shape.output_height) * shape.output_width <= kMaxInt32 &&
        static_cast<int64_t>(shape.height) * shape.width <= kMaxInt32 &&
        static_cast<int64_t>(shape.rois) * shape.channels <= kMaxInt32 &&
        static_cast<int64_t>(shape.batch) * shape.channels <= kMaxInt32;
    return fits ? TRTYARD_OK : TRTYARD_TOO_LARGE;
}

}  // namespace maskrcnn_roi_align
}  // namespace trtyard

extern "C" size_t trtyard_roi_align_workspace(
    int32_t batch, int32_t channels, int32_t height, int32_t width, int32_t rois,
    int32_t output_height, int32_t output_width) {
    (void)batch, (void)channels, (void)height, (void)width;
    (void)rois, (void)output_height, (void)output_width;
    return 0;
}

extern "C" int32_t trtyard_roi_align(
    const void* features, const float* rois, const int32_t* batch_indices, void* pooled,
    int32_t batch, int32_t channels, int32_t height, int32_t width, int32_t rois_count,
    int32_t output_height, int32_t output_width, float spatial_scale, int32_t sampling_ratio,
    int32_t aligned, int32_t dtype, void* workspace, size_t workspace_bytes, void* stream) {
    using namespace trtyard;
    using namespace trtyard::maskrcnn_roi_align;
    const Shape shape{batch, channels, height, width, rois_count, output_height, output_width};
    int32_t status = check_shape(shape);
    if (status != TRTYARD_OK) {
        return status;
    }
    if (!is_element_type(dtype)) {
        return TRTYARD_UNSUPPORTED_DTYPE;
    }
    const bool finite_scale = spatial_scale - spatial_scale == 0.0f;
    if (!finite_scale || sampling_ratio < 0 || (aligned != 0 && aligned != 1)) {
        return TRTYARD_BAD_ARGUMENT;
    }
    if (shape.empty_output()) {
        return TRTYARD_OK;
    }
    const bool reads = batch > 0 && height > 0 && width > 0;
    if (rois == nullptr || batch_indices == nullptr || pooled == nullptr ||
        (reads && features == nullptr)) {
        return TRTYARD_BAD_ARGUMENT;
    }
    status = check_workspace(
        workspace, workspace_bytes,
        trtyard_roi_align_workspace(
            batch, channels, height, width, rois_count, output_height, output_width));
    if (status != TRTYARD_OK) {
        return status;
    }
    const int64_t items = static_cast<int64_t>(rois_count) * channels * output_height * output_width;
    const int64_t wanted = ceil_div(items, kThreads);
    return with_element_type(dtype, [&](auto element) {
        using T = decltype(element);
        return launch(
            roi_align<T>, wanted < kMaxBlocks ? wanted : kMaxBlocks, kThreads, stream,
            static_cast<const T*>(features), rois, batch_indices, static_cast<T*>(pooled), shape,
            spatial_scale, sampling_ratio, aligned == 1);
    });
}
