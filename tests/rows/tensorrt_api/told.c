// The plugins' C interface without kernels: each launch writes down what it was told, by the names in
// the header.
#include <stdio.h>

#include "trtyard_kernels.h"

static char told[512];

TRTYARD_API const char* last_told(void) { return told; }

int32_t trtyard_abi_version(void) { return TRTYARD_ABI_VERSION; }
const char* trtyard_status_string(int32_t status) { return status ? "refused" : "done"; }

size_t trtyard_padded_nms_workspace(
    int32_t batch, int32_t classes, int32_t boxes, int32_t keep_top_k) {
    return 1000000u * batch + 10000u * classes + 100u * boxes + keep_top_k;
}

int32_t trtyard_padded_nms(
    const void* boxes, const void* scores, int32_t* indices, int32_t* count, int32_t batch,
    int32_t classes, int32_t box_classes, int32_t boxes_per_class, int32_t keep_top_k,
    float iou_threshold, float score_threshold, int32_t box_offset, int32_t dtype, void* workspace,
    size_t workspace_bytes, void* stream) {
    snprintf(
        told, sizeof told,
        "boxes %zu scores %zu indices %zu count %zu batch %d classes %d box_classes %d "
        "boxes_per_class %d keep_top_k %d iou %.2f score %.2f box_offset %d dtype %d "
        "workspace %zu of %zu stream %zu",
        (size_t)boxes, (size_t)scores, (size_t)indices, (size_t)count, batch, classes, box_classes,
        boxes_per_class, keep_top_k, iou_threshold, score_threshold, box_offset, dtype,
        (size_t)workspace, workspace_bytes, (size_t)stream);
    return 0;
}

size_t trtyard_roi_align_workspace(
    int32_t batch, int32_t channels, int32_t height, int32_t width, int32_t rois,
    int32_t output_height, int32_t output_width) {
    return batch + 10u * channels + 100u * height + 1000u * width + 10000u * rois +
           100000u * output_height + 1000000u * output_width;
}

int32_t trtyard_roi_align(
    const void* features, const float* rois, const int32_t* batch_indices, void* pooled,
    int32_t batch, int32_t channels, int32_t height, int32_t width, int32_t rois_count,
    int32_t output_height, int32_t output_width, float spatial_scale, int32_t sampling_ratio,
    int32_t aligned, int32_t mode, int32_t dtype, int32_t features_format, int32_t pooled_format,
    void* workspace, size_t workspace_bytes, void* stream) {
    snprintf(
        told, sizeof told,
        "features %zu rois %zu batch_indices %zu pooled %zu batch %d channels %d height %d width %d "
        "rois_count %d output_height %d output_width %d spatial_scale %.4f sampling_ratio %d "
        "aligned %d mode %d dtype %d features_format %d pooled_format %d "
        "workspace %zu of %zu stream %zu",
        (size_t)features, (size_t)rois, (size_t)batch_indices, (size_t)pooled, batch, channels,
        height, width, rois_count, output_height, output_width, spatial_scale, sampling_ratio,
        aligned, mode, dtype, features_format, pooled_format, (size_t)workspace, workspace_bytes, (size_t)stream);
    return 0;
}

size_t trtyard_multiscale_roi_align_workspace(
    int32_t rois, int32_t output_height, int32_t output_width) {
    return 10000u * rois + 100u * output_height + output_width;
}

int32_t trtyard_multiscale_roi_align(
    const void* const* features, const float* rois, const int32_t* batch_indices, void* pooled,
    const int32_t* heights, const int32_t* widths, const float* scales, int32_t levels,
    int32_t batch, int32_t channels, int32_t rois_count, int32_t output_height,
    int32_t output_width, int32_t sampling_ratio, int32_t aligned, int32_t canonical_scale,
    int32_t canonical_level, int32_t dtype, int32_t features_format, int32_t pooled_format,
    void* workspace, size_t workspace_bytes, void* stream) {
    int used = 0;
    for (int32_t i = 0; i < levels; ++i) {
        used += snprintf(
            told + used, sizeof told - used, "map %zu %d %d %.4f ", (size_t)features[i], heights[i],
            widths[i], scales[i]);
    }
    snprintf(
        told + used, sizeof told - used,
        "rois %zu batch_indices %zu pooled %zu batch %d channels %d rois_count %d output_height %d "
        "output_width %d sampling_ratio %d aligned %d canonical_scale %d canonical_level %d "
        "dtype %d features_format %d pooled_format %d workspace %zu of %zu stream %zu",
        (size_t)rois, (size_t)batch_indices, (size_t)pooled, batch, channels, rois_count,
        output_height, output_width, sampling_ratio, aligned, canonical_scale, canonical_level,
        dtype, features_format, pooled_format, (size_t)workspace, workspace_bytes, (size_t)stream);
    return 0;
}
