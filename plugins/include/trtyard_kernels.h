/* C interface of trtyard's kernels. It needs no TensorRT and no CUDA headers.
 *
 * Every pointer except `stream` and the arrays marked as host memory is device memory of the current
 * device. `stream` is a cudaStream_t
 * (NULL: the legacy default stream). A call only puts work into the stream: it allocates nothing,
 * never waits, accesses no host memory later, and can be captured in a CUDA graph.
 *
 * Scratch memory comes from the caller. The *_workspace function returns its size; the pointer must be
 * aligned to 256 bytes, as from cudaMalloc. Its content does not matter before the call and is undefined
 * afterwards. The size for some shapes is enough for all smaller ones, so an engine asks for its largest.
 *
 * Inputs and outputs need the alignment of their element type only, and must not overlap.
 *
 * The ops' contracts (order, ties, NaN, padding) are in the README.md of plugins/padded_nms,
 * plugins/maskrcnn_roi_align and plugins/multiscale_roi_align.
 */
#ifndef TRTYARD_KERNELS_H
#define TRTYARD_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define TRTYARD_API __declspec(dllexport)
#else
#define TRTYARD_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Raised when a function below changes its meaning or its arguments. */
#define TRTYARD_ABI_VERSION 4

/* A call returns 0, a positive cudaError_t, or one of these. */
enum {
    TRTYARD_OK = 0,
    TRTYARD_BAD_ARGUMENT = -1,        /* a negative size, a null pointer to data, a bad attribute */
    TRTYARD_WORKSPACE_TOO_SMALL = -2, /* fewer bytes than *_workspace returns, or null */
    TRTYARD_WORKSPACE_MISALIGNED = -3,
    TRTYARD_UNSUPPORTED_DTYPE = -4,
    TRTYARD_TOO_LARGE = -5            /* a size or an index does not fit into the kernels' integers */
};

/* Element type of boxes and scores, or of features and pooled outputs. */
enum {
    TRTYARD_FLOAT32 = 0,
    TRTYARD_FLOAT16 = 1,
    TRTYARD_BFLOAT16 = 2
};

/* Memory layout of a tensor [N, C, H, W]. */
enum {
    TRTYARD_NCHW = 0,
    TRTYARD_NHWC = 1,
    TRTYARD_NHWC8 = 2 /* channels padded to a multiple of 8: zeros in pooled, any value in features */
};

/* How RoIAlign combines the samples of a bin. */
enum {
    TRTYARD_AVERAGE = 0,
    TRTYARD_MAXIMUM = 1
};

/* Returns the TRTYARD_ABI_VERSION that the library was built with. */
TRTYARD_API int32_t trtyard_abi_version(void);

/* Returns the text for a status. Never null; static storage. */
TRTYARD_API const char* trtyard_status_string(int32_t status);

/* Returns the bytes of workspace for trtyard_padded_nms with these or smaller sizes, for any dtype and any
 * number of box classes; 0 for sizes that trtyard_padded_nms refuses. */
TRTYARD_API size_t trtyard_padded_nms_workspace(
    int32_t batch, int32_t classes, int32_t boxes, int32_t keep_top_k);

/* PaddedNMS: greedy suppression in each class, then the best keep_top_k of all classes of an image.
 *
 *   boxes    [batch, box_classes, boxes_per_class, 4] of dtype: corners x1, y1, x2, y2
 *   scores   [batch, classes, boxes_per_class] of dtype
 *   indices  [batch, keep_top_k] int32: class * boxes_per_class + box, descending score, ties by
 *            lower index, -1 after the last one
 *   count    [batch] int32: how many indices are not -1
 *
 * box_classes is 1 (boxes shared by all classes) or classes. box_offset is 0 or 1.
 * classes * boxes_per_class and batch * classes * boxes_per_class must be below 2^31. */
TRTYARD_API int32_t trtyard_padded_nms(
    const void* boxes, const void* scores, int32_t* indices, int32_t* count,
    int32_t batch, int32_t classes, int32_t box_classes, int32_t boxes_per_class, int32_t keep_top_k,
    float iou_threshold, float score_threshold, int32_t box_offset, int32_t dtype,
    void* workspace, size_t workspace_bytes, void* stream);

/* Returns the bytes of workspace for trtyard_roi_align with these sizes, or smaller ones of the same
 * output; 0 if it refuses the sizes or needs no workspace. */
TRTYARD_API size_t trtyard_roi_align_workspace(
    int32_t batch, int32_t channels, int32_t height, int32_t width, int32_t rois,
    int32_t output_height, int32_t output_width);

/* MaskRcnnROIAlign: the mean of bilinear samples in each bin of each roi, or their maximum.
 *
 *   features       [batch, channels, height, width] of dtype, in the layout features_format
 *   rois           [rois_count, 4] float32: x1, y1, x2, y2 in pixels of the input picture
 *   batch_indices  [rois_count] int32; negative: a padded roi, whose output is zeros
 *   pooled         [rois_count, channels, output_height, output_width] of dtype, in pooled_format
 *
 * sampling_ratio 0: adaptive, ceil(roi size / output size) samples for each bin and axis. aligned is 0 or
 * 1, mode TRTYARD_AVERAGE or TRTYARD_MAXIMUM. A batch index of `batch` or more counts as padding, so
 * nothing outside features is read. */
TRTYARD_API int32_t trtyard_roi_align(
    const void* features, const float* rois, const int32_t* batch_indices, void* pooled,
    int32_t batch, int32_t channels, int32_t height, int32_t width, int32_t rois_count,
    int32_t output_height, int32_t output_width, float spatial_scale, int32_t sampling_ratio,
    int32_t aligned, int32_t mode, int32_t dtype, int32_t features_format, int32_t pooled_format,
    void* workspace, size_t workspace_bytes, void* stream);

/* Returns the bytes of workspace for trtyard_multiscale_roi_align with these or fewer rois and the same
 * output, for any maps; 0 if it refuses the sizes or needs no workspace. */
TRTYARD_API size_t trtyard_multiscale_roi_align_workspace(
    int32_t rois, int32_t output_height, int32_t output_width);

/* MultiscaleRoIAlign: the mean of bilinear samples in each bin of each roi, on the map that fits its size.
 *
 *   features       [levels] in host memory: device pointers to the maps, the finest first. Each map is
 *                  [batch, channels, heights[i], widths[i]] of dtype, in the layout features_format
 *   rois, batch_indices, pooled: as above
 *   heights, widths, scales  [levels] in host memory: of each map, the scale in cells per pixel
 *
 * There are 2 to 5 levels. The scales are positive, and the last is not larger than the first.
 * canonical_scale is at least 1. */
TRTYARD_API int32_t trtyard_multiscale_roi_align(
    const void* const* features, const float* rois, const int32_t* batch_indices, void* pooled,
    const int32_t* heights, const int32_t* widths, const float* scales, int32_t levels,
    int32_t batch, int32_t channels, int32_t rois_count, int32_t output_height,
    int32_t output_width, int32_t sampling_ratio, int32_t aligned, int32_t canonical_scale,
    int32_t canonical_level, int32_t dtype, int32_t features_format, int32_t pooled_format,
    void* workspace, size_t workspace_bytes, void* stream);

#ifdef __cplusplus
}
#endif

#endif /* TRTYARD_KERNELS_H */
