// MaskRcnnROIAlign: the mean of bilinear samples in each bin of each roi, or their maximum. See README.md.
//
// call.cuh lists the algorithms, plan.cuh chooses one. Coordinates and sums are float32 for every feature type.
#include "maskrcnn_roi_align/plan.cuh"

extern "C" size_t trtyard_roi_align_workspace(
    int32_t batch, int32_t channels, int32_t height, int32_t width, int32_t rois,
    int32_t output_height, int32_t output_width) {
    using namespace trtyard;
    using namespace trtyard::maskrcnn_roi_align;
    const Shape shape{batch, channels, height, width, rois, output_height, output_width};
    return check_shape(shape) == TRTYARD_OK ? Plan(shape, nullptr).bytes : 0;
}

extern "C" int32_t trtyard_roi_align(
    const void* features, const float* rois, const int32_t* batch_indices, void* pooled,
    int32_t batch, int32_t channels, int32_t height, int32_t width, int32_t rois_count,
    int32_t output_height, int32_t output_width, float spatial_scale, int32_t sampling_ratio,
    int32_t aligned, int32_t mode, int32_t dtype, int32_t features_format, int32_t pooled_format,
    void* workspace, size_t workspace_bytes, void* stream) {
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
    const bool flags_good = (aligned == 0 || aligned == 1) &&
                            (mode == TRTYARD_AVERAGE || mode == TRTYARD_MAXIMUM) &&
                            is_format(features_format) && is_format(pooled_format);
    if (!finite_scale || sampling_ratio < 0 || !flags_good) {
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
    const Plan plan(shape, workspace);
    status = check_workspace(workspace, workspace_bytes, plan.bytes);
    if (status != TRTYARD_OK) {
        return status;
    }
    Device device;
    status = device.query();
    if (status != TRTYARD_OK) {
        return status;
    }
    const Sampling sampling{spatial_scale, sampling_ratio, aligned == 1};
    return with_element_type(dtype, [&](auto element) {
        using T = decltype(element);
        return run(Call<T>{
            static_cast<const T*>(features), rois, batch_indices, static_cast<T*>(pooled), shape,
            sampling, mode == TRTYARD_MAXIMUM, order_of(features_format, channels),
            order_of(pooled_format, channels), plan.tables, plan.fragments, device, stream});
    });
}
