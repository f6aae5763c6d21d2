// The weights of a roi's bins on the map's cells, one table for each axis.
//
// The mean over a bin's samples is separable: pooled = Wy * F * Wx^T, with one matrix for each axis. It has as
// many rows as bins, and few entries in each row. All channels of a roi share it.
#pragma once

#include "common/async.cuh"
#include "maskrcnn_roi_align/samples.cuh"

namespace trtyard {
namespace maskrcnn_roi_align {

constexpr int kWarp = 32;
constexpr unsigned kFullWarp = 0xffffffffu;

constexpr int kMaxBins = 16;    // on an axis; a warp computes a roi's tables, half of it for each axis
constexpr int kWindowTaps = 3;  // cells of a bin that the window form supports
constexpr int kMaxTaps = 11;    // cells of a bin that a table holds: kWindowTaps and two float4
constexpr int kFewTaps = 4;     // cells of a bin whose loads are unrolled
constexpr int kTableThreads = 128;
constexpr int kBinTable = kMaxBins + 1;  // a warp's copy of an axis: the bin after the last is read, too

// How to pool a roi: the first form that its tables allow.
enum Form {
    kWindowForm,  // at most kWindowTaps cells for a bin on both axes, bins in order
    kLoopForm,    // at most kMaxTaps cells for a bin
    kSampleForm,  // sample by sample
};

constexpr int kPadded = -1;  // the image index of a padded roi

constexpr int kNoRow = 1 << 30;  // first cell of the bin after the last: no row reaches it

struct Header {
    int image;
    int16_t form, level;
    int columns, rows;  // the most cells of a bin on that axis
};

struct Tables {
    Header* headers;  // [rois]
    // [rois][2][kMaxBins], x axis first: a bin's first cell (the bits of an int) and the weights of
    // that cell and the next two. After the last bin: kNoRow.
    float4* heads;
    float4* tails;  // [rois][2][2][kMaxBins]: the weights of the next eight; unused by the window form
};

struct Shape {
    int batch, channels, height, width, rois, output_height, output_width;

    bool empty_output() const {
        return rois == 0 || channels == 0 || output_height == 0 || output_width == 0;
    }
};

struct Sampling {
    float spatial_scale;
    int ratio;
    bool aligned;
};

// Whether a roi is padding or reads no cell of the map.
__device__ inline bool is_padding(
    int image, const float* corners, const Shape& shape, const Sampling& sampling) {
    return image < 0 || image >= shape.batch || !is_in_reach(corners, sampling.spatial_scale);
}

__device__ inline Axis make_roi_axis(
    const float* corners, bool vertical, const Shape& shape, const Sampling& sampling) {
    const int axis = vertical ? 1 : 0;
    return make_axis(
        corners[axis], corners[axis + 2], sampling.spatial_scale, sampling.ratio, sampling.aligned,
        vertical ? shape.output_height : shape.output_width);
}

// The features of MaskRcnnROIAlign. Pyramid (multiscale_roi_align/pyramid.cuh) has the same functions.
struct OneMap {
    const void* features;

    // The map of a roi; negative: the roi has none.
    __device__ int level_of(const float*) const { return 0; }
    // Sets the height, width and scale of a map and returns its features.
    __device__ const void* select(int, Shape&, Sampling&) const { return features; }
};

struct Pyramid;

// Writes the tables of every roi; returns a status of trtyard_kernels.h.
int32_t make_tables_of(
    const float* rois, const int32_t* batch_indices, const Tables& tables, const Shape& shape,
    const Sampling& sampling, const Pyramid* pyramid, void* stream);

}  // namespace maskrcnn_roi_align
}  // namespace trtyard
