// MultiscaleRoIAlign: RoIAlign of each roi on the map of a feature pyramid that fits its size. See README.md.
//
// The algorithms are those of MaskRcnnROIAlign.
#include <cmath>

#include "maskrcnn_roi_align/plan.cuh"

namespace trtyard {
namespace multiscale_roi_align {

using namespace maskrcnn_roi_align;

// The level of a map with this scale: k for 2^-k, else rounded towards 0.
int level_of_scale(float scale) {
    return static_cast<int>(-static_cast<float>(std::log2(static_cast<double>(scale))));
}

bool are_valid_scales(const float* scales, int32_t levels) {
    bool good = true;
    for (int32_t level = 0; level < levels; ++level) {
        good = good && scales[level] > 0.0f && scales[level] - scales[level] == 0.0f;
    }
    return good && scales[0] >= scales[levels - 1];
}

// A shape that needs the most workspace: it depends on the rois and bins only.
Shape shape_of_tables(int32_t rois, int32_t output_height, int32_t output_width) {
    return {1, 1, 1, 1, rois, output_height, output_width};
}

}  // namespace multiscale_roi_align
}  // namespace trtyard

extern "C" size_t trtyard_multiscale_roi_align_workspace(
    int32_t rois, int32_t output_height, int32_t output_width) {
    using namespace trtyard;
    using namespace trtyard::multiscale_roi_align;
    const Shape shape = shape_of_tables(rois, output_height, output_width);
    return check_shape(shape) == TRTYARD_OK ? Plan(shape, nullptr).bytes : 0;
}

extern "C" int32_t trtyard_multiscale_roi_align(
    const void* const* features, const float* rois, const int32_t* batch_indices, void* pooled,
    const int32_t* heights, const int32_t* widths, const float* scales, int32_t levels,
    int32_t batch, int32_t channels, int32_t rois_count, int32_t output_height,
    int32_t output_width, int32_t sampling_ratio, int32_t aligned, int32_t canonical_scale,
    int32_t canonical_level, int32_t dtype, int32_t features_format, int32_t pooled_format,
    void* workspace, size_t workspace_bytes, void* stream) {
    using namespace trtyard;
    using namespace trtyard::multiscale_roi_align;
    const bool has_levels = levels >= 2 && levels <= kMostMaps && features != nullptr &&
                            heights != nullptr && widths != nullptr && scales != nullptr;
    if (!has_levels) {
        return TRTYARD_BAD_ARGUMENT;
    }
    Shape shape{batch, channels, 0, 0, rois_count, output_height, output_width};
    Pyramid pyramid{};
    bool reads = false;
    bool has_features = true;
    for (int32_t level = 0; level < levels; ++level) {
        shape.height = heights[level];
        shape.width = widths[level];
        const int32_t status = check_shape(shape);
        if (status != TRTYARD_OK) {
            return status;
        }
        pyramid.maps[level] = {features[level], shape.height, shape.width, scales[level]};
        const bool has_cells = batch > 0 && shape.height > 0 && shape.width > 0;
        reads = reads || has_cells;
        has_features = has_features && (!has_cells || features[level] != nullptr);
    }
    if (!is_element_type(dtype)) {
        return TRTYARD_UNSUPPORTED_DTYPE;
    }
    const bool flags_good = (aligned == 0 || aligned == 1) && is_format(features_format) &&
                            is_format(pooled_format);
    if (!are_valid_scales(scales, levels) || sampling_ratio < 0 || canonical_scale < 1 ||
        !flags_good) {
        return TRTYARD_BAD_ARGUMENT;
    }
    if (shape.empty_output()) {
        return TRTYARD_OK;
    }
    if (rois == nullptr || batch_indices == nullptr || pooled == nullptr || !has_features) {
        return TRTYARD_BAD_ARGUMENT;
    }
    pyramid.count = levels;
    pyramid.first = level_of_scale(scales[0]);
    pyramid.last = level_of_scale(scales[levels - 1]);
    pyramid.canonical_scale = static_cast<float>(canonical_scale);
    pyramid.canonical_level = static_cast<float>(canonical_level);

    Plan plan(shape_of_tables(rois_count, output_height, output_width), workspace);
    int32_t status = check_workspace(workspace, workspace_bytes, plan.bytes);
    if (status != TRTYARD_OK) {
        return status;
    }
    if (!reads) {
        plan.tables = {};  // every roi is padding
    }
    Device device;
    status = device.query();
    if (status != TRTYARD_OK) {
        return status;
    }
    const Sampling sampling{0.0f, sampling_ratio, aligned == 1};
    return with_element_type(dtype, [&](auto element) {
        using T = decltype(element);
        return run(Call<T>{
            nullptr, rois, batch_indices, static_cast<T*>(pooled), shape, sampling, false,
            order_of(features_format, channels), order_of(pooled_format, channels), plan.tables,
            FragmentTables{}, device, stream, &pyramid});
    });
}
