// The maps of MultiscaleRoIAlign, and which of them a roi is pooled from.
#pragma once

#include "maskrcnn_roi_align/tables.cuh"
#include "multiscale_roi_align/levels.cuh"

namespace trtyard {
namespace maskrcnn_roi_align {

constexpr int kMostMaps = 5;

struct Pyramid {
    struct Map {
        const void* features;
        int height, width;
        float scale;
    };

    Map maps[kMostMaps];  // the finest first
    int count;
    Levels levels;

    // As in OneMap.
    __device__ int level_of(const float* corners) const {
        const int index = map_of_roi(corners, levels);
        const bool exists =
            index >= 0 && index < count && maps[index].height > 0 && maps[index].width > 0;
        return exists ? index : -1;
    }

    __device__ const void* select(int level, Shape& shape, Sampling& sampling) const {
        shape.height = maps[level].height;
        shape.width = maps[level].width;
        sampling.spatial_scale = maps[level].scale;
        return maps[level].features;
    }
};

}  // namespace maskrcnn_roi_align
}  // namespace trtyard
