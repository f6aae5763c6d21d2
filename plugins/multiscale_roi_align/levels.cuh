// Which map of a pyramid a roi is pooled from, by its size.
#pragma once

#include <cstdint>

#include "common/exact.cuh"

namespace trtyard {
namespace maskrcnn_roi_align {

struct Levels {
    int first, last;  // of the first and the last map: -log2 of their scales
    float canonical_scale, canonical_level;
};

// The level of a map with this scale: k for 2^-k, else rounded towards 0.
inline int level_of_scale(float scale) {
    return static_cast<int>(-static_cast<float>(std::log2(static_cast<double>(scale))));
}

// Returns the index of the roi's map, the first's is 0; negative if the roi is inverted on one axis or NaN. If
// the scales skip a level, there may be no such map. Each operation is rounded to float32, in the order of
// torchvision's LevelMapper.
__host__ __device__ inline int map_of_roi(const float* corners, const Levels& levels) {
    constexpr float kEpsilon = 1e-6f;
    const float area =
        multiply(subtract(corners[2], corners[0]), subtract(corners[3], corners[1]));
    if (!(area >= 0.0f)) {
        return -1;
    }
    const float size = quotient(square_root(area), levels.canonical_scale);
    // In double, so that the float32 is the nearest one.
    const float logarithm = static_cast<float>(log2(static_cast<double>(size)));
    const float level = floorf(add(add(levels.canonical_level, logarithm), kEpsilon));
    const float lowest = static_cast<float>(levels.first);
    const float highest = static_cast<float>(levels.last);
    return static_cast<int>(fminf(fmaxf(level, lowest), highest)) - levels.first;
}

}  // namespace maskrcnn_roi_align
}  // namespace trtyard
