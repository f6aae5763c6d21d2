// The maps of MultiscaleRoIAlign, and which of them a roi is pooled from.
#pragma once

#include "maskrcnn_roi_align/tables.cuh"

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
    int first, last;  // the levels of the first and the last map: -log2 of their scales
    float canonical_scale, canonical_level;

    // As in OneMap. Each operation is rounded to float32, in the order of torchvision's LevelMapper.
    __device__ int level_of(const float* corners) const {
        constexpr float kEpsilon = 1e-6f;
        const float area = __fmul_rn(
            __fsub_rn(corners[2], corners[0]), __fsub_rn(corners[3], corners[1]));
        if (!(area >= 0.0f)) {
            return -1;  // inverted on one axis, or NaN
        }
        const float size = __fdiv_rn(__fsqrt_rn(area), canonical_scale);
        // In double, so that the float32 is the nearest one.
        const float logarithm = static_cast<float>(log2(static_cast<double>(size)));
        const float level =
            floorf(__fadd_rn(__fadd_rn(canonical_level, logarithm), kEpsilon));
        const float lowest = static_cast<float>(first);
        const float highest = static_cast<float>(last);
        const int index = static_cast<int>(fminf(fmaxf(level, lowest), highest)) - first;
        // If the scales skip a level, there may be no such map.
        const bool exists =
            index < count && maps[index].height > 0 && maps[index].width > 0;
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
