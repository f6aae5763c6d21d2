// Where a roi is sampled along one axis, and what a sample reads.
//
// The result is discontinuous at two places: a sample outside [-1, size] counts as zero, and the adaptive
// number of samples is a ceil. So coordinates are computed with operations that are never fused, in the order of
// torchvision's CPU kernel. Both then decide equally.
#pragma once

#include <cstdint>

#include "common/exact.cuh"

namespace trtyard {

struct Axis {
    float start;  // of the roi, in cells of the map
    float bin;    // size of a bin, in cells
    int samples;  // in a bin
};

// The bilinear sample at one coordinate: weight_low * cell[low] + weight_high * cell[high].
struct Tap {
    int low, high;
    float weight_low, weight_high;
};

struct Range {
    int first, end;
};

// The most cells between a corner and the first cell of the map. Farther away, the steps of float32 are an
// eighth of a cell or more, and the roi counts as padding. So no number of samples exceeds twice this.
constexpr float kFarthest = 1048576.0f;

__host__ __device__ inline bool is_in_reach(const float* corners, float scale) {
    bool near = true;
    for (int k = 0; k < 4; ++k) {
        near = near && fabsf(multiply(corners[k], scale)) < kFarthest;  // false for NaN
    }
    return near;
}

__host__ __device__ inline Axis make_axis(
    float low, float high, float scale, int sampling_ratio, bool aligned, int bins) {
    const float shift = aligned ? 0.5f : 0.0f;
    const float start = subtract(multiply(low, scale), shift);
    const float end = subtract(multiply(high, scale), shift);
    float size = subtract(end, start);
    if (!aligned && size < 1.0f) {
        size = 1.0f;
    }
    const float bin = quotient(size, static_cast<float>(bins));
    const int cells = static_cast<int>(ceilf(bin));
    const int adaptive = cells > 0 ? cells : 0;  // 0 if the corners are swapped
    return {start, bin, sampling_ratio > 0 ? sampling_ratio : adaptive};
}

// Coordinate of a bin's sample, in cells.
__host__ __device__ inline float sample(const Axis& axis, int bin, int index) {
    const float origin = add(axis.start, multiply(static_cast<float>(bin), axis.bin));
    const float steps = add(static_cast<float>(index), 0.5f);
    return add(
        origin, quotient(multiply(steps, axis.bin), static_cast<float>(axis.samples)));
}

__host__ __device__ inline bool is_inside(float coordinate, int size) {
    return coordinate >= -1.0f && coordinate <= static_cast<float>(size);  // false for NaN
}

// The bin's samples that read the map. They are consecutive, because rounding keeps the coordinates in order.
// Found by bisection: a roi of a million cells has a million samples, and few of them are inside.
__host__ __device__ inline Range inside(const Axis& axis, int bin, int size) {
    if (size == 0) {
        return {0, 0};
    }
    if (axis.samples > 0 && is_inside(sample(axis, bin, 0), size) &&
        is_inside(sample(axis, bin, axis.samples - 1), size)) {
        return {0, axis.samples};
    }
    const bool rising = axis.bin >= 0.0f;
    const float far = static_cast<float>(size);
    // The first index from which `passed` is true.
    int bounds[2];
    for (int side = 0; side < 2; ++side) {
        int low = 0;
        int high = axis.samples;
        while (low < high) {
            const int middle = low + (high - low) / 2;
            const float at = sample(axis, bin, middle);
            const bool entered = rising ? at >= -1.0f : at <= far;
            const bool left = rising ? !(at <= far) : !(at >= -1.0f);
            if (side == 0 ? entered : left) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        bounds[side] = low;
    }
    return {bounds[0], bounds[1] < bounds[0] ? bounds[0] : bounds[1]};
}

__host__ __device__ inline Tap make_tap(float coordinate, int size) {
    const float at = fmaxf(coordinate, 0.0f);
    const int low = static_cast<int>(at);
    if (low >= size - 1) {
        return {size - 1, size - 1, 1.0f, 0.0f};
    }
    const float fraction = at - static_cast<float>(low);
    return {low, low + 1, 1.0f - fraction, fraction};
}

}  // namespace trtyard
