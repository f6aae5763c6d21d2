// The checks of a call, its workspace, and the choice of an algorithm.
#pragma once

#include "maskrcnn_roi_align/call.cuh"

// A named namespace: nvcc names an anonymous one after its working folder, and the same sources would give
// different bytes in another folder.
namespace trtyard {
namespace maskrcnn_roi_align {

constexpr int kPadding = 8;  // channels of TRTYARD_NHWC8

inline bool is_format(int32_t format) {
    return format == TRTYARD_NCHW || format == TRTYARD_NHWC || format == TRTYARD_NHWC8;
}

inline Order order_of(int32_t format, int channels) {
    const int64_t padded = ceil_div(channels, kPadding) * kPadding;
    return {format != TRTYARD_NCHW,
            format == TRTYARD_NHWC8 ? static_cast<int>(padded) : channels};
}

inline int32_t check_shape(const Shape& shape) {
    const bool good = shape.batch >= 0 && shape.channels >= 0 && shape.height >= 0 &&
                      shape.width >= 0 && shape.rois >= 0 && shape.output_height >= 0 &&
                      shape.output_width >= 0;
    if (!good) {
        return TRTYARD_BAD_ARGUMENT;
    }
    const int64_t channels = ceil_div(shape.channels, kPadding) * kPadding;
    const bool fits =
        static_cast<int64_t>(shape.output_height) * shape.output_width <= kMaxInt32 &&
        static_cast<int64_t>(shape.height) * shape.width <= kMaxInt32 &&
        shape.rois * channels <= kMaxInt32 &&
        shape.batch * channels <= kMaxInt32;
    return fits ? TRTYARD_OK : TRTYARD_TOO_LARGE;
}

// With fewer rois in an image, reading whole maps is too slow; with fewer in total, so are tables.
constexpr int64_t kFewRois = 4;

// Whether tables exist for these sizes. The workspace must have room for them on every device.
inline bool has_tables(const Shape& shape) {
    return !shape.empty_output() && shape.batch > 0 && shape.height > 0 && shape.width > 0 &&
           shape.output_height <= kMaxBins && shape.output_width <= kMaxBins &&
           shape.rois >= kFewRois;
}

// A map of more cells does not fit into any shared memory, with 4 channels of 16 bits at a time.
constexpr int64_t kMostResidentCells = 32768;

// The most tiles of rows and columns together that a resident map of at most this height and width can have.
// With a fixed number of cells, the sum grows with the longer side.
inline int64_t most_tiles(int64_t height, int64_t width) {
    const int64_t longest = height > width ? height : width;
    const int64_t side = longest < kMostResidentCells ? longest : kMostResidentCells;
    // The last tile of each side may be partly filled.
    const int64_t limit = (side + ceil_div(kMostResidentCells, side)) / kTile + 2;
    const int64_t own = ceil_div(height, kTile) + ceil_div(width, kTile);
    return own < limit ? own : limit;
}

struct Plan {
    Tables tables{};
    FragmentTables fragments{};  // in the same memory: a call uses one of the two
    size_t bytes = 0;            // also enough for all smaller sizes: an engine asks for its largest only

    Plan(const Shape& shape, void* workspace) {
        if (!has_tables(shape)) {
            return;
        }
        Workspace pieces(workspace);
        const int64_t rois = shape.rois;
        tables.headers = pieces.take<Header>(rois);
        tables.heads = pieces.take<float4>(rois * kWarp);
        tables.tails = pieces.take<float4>(rois * 2 * kWarp);

        const bool few = shape.output_height <= kFewBins && shape.output_width <= kFewBins;
        const int64_t words = (few ? 4 : 8) * kWarp;  // for each roi and tile
        Workspace others(workspace);
        Window* windows = others.take<Window>(rois);
        unsigned* words_of_all =
            others.take<unsigned>(rois * most_tiles(shape.height, shape.width) * words);
        bytes = others.used() > pieces.used() ? others.used() : pieces.used();
        if (static_cast<int64_t>(shape.height) * shape.width <= kMostResidentCells) {
            fragments.row_tiles = static_cast<int>(ceil_div(shape.height, kTile));
            fragments.column_tiles = static_cast<int>(ceil_div(shape.width, kTile));
            fragments.windows = windows;
            fragments.fragments = words_of_all;
        }
    }
};

// The algorithms, fastest first.
template <typename T>
int32_t run(const Call<T>& call) {
    int32_t status = kDoesNotFit;
    if (call.tables.headers != nullptr && !call.maximum) {
        if (call.features_order.channels_last) {
            status = run_channels_last(call);
        } else {
            if (call.pyramid == nullptr && call.shape.rois >= kFewRois * call.shape.batch) {
                status = run_resident(call);
            }
            status = status == kDoesNotFit ? run_streamed(call) : status;
        }
    }
    return status == kDoesNotFit ? run_direct(call) : status;
}

}  // namespace maskrcnn_roi_align
}  // namespace trtyard
