// Boxes and their overlap, rounded exactly as on the CPU.
//
// A fused operation would give another result for boxes at the threshold.
#pragma once

#include "common/element.cuh"
#include "common/exact.cuh"

namespace trtyard {

struct Box {
    float x1, y1, x2, y2, area;
};

__host__ __device__ inline float span(float low, float high, float offset) {
    return add(subtract(high, low), offset);
}

__host__ __device__ inline Box make_box(float4 corners, float offset) {
    const float area = multiply(
        span(corners.x, corners.z, offset), span(corners.y, corners.w, offset));
    return {corners.x, corners.y, corners.z, corners.w, area};
}

__device__ inline Box empty_box() { return {0.0f, 0.0f, 0.0f, 0.0f, 0.0f}; }

// The corners of a box, with one load if the alignment allows it.
template <typename T>
struct alignas(4 * sizeof(T)) Four {
    T x, y, z, w;
};

template <typename T>
__device__ float4 load_corners(const T* boxes, int index, bool aligned) {
    const T* corners = boxes + static_cast<int64_t>(index) * 4;
    Four<T> four;
    if (aligned) {
        four = *reinterpret_cast<const Four<T>*>(corners);
    } else {
        four.x = corners[0];
        four.y = corners[1];
        four.z = corners[2];
        four.w = corners[3];
    }
    return make_float4(to_float(four.x), to_float(four.y), to_float(four.z), to_float(four.w));
}

// Scalar loads: boxes have the alignment of their element type only.
template <typename T>
__host__ __device__ Box load_box(const T* boxes, int index, float offset) {
    const T* corners = boxes + static_cast<int64_t>(index) * 4;
    return make_box(
        make_float4(
            to_float(corners[0]), to_float(corners[1]), to_float(corners[2]),
            to_float(corners[3])),
        offset);
}

// Whether a kept box suppresses another: intersection over union strictly above the threshold.
// False where the quotient is NaN (0 / 0, NaN or infinite corners).
__host__ __device__ inline bool overlaps(const Box& a, const Box& b, float threshold, float offset) {
    const float width = fmaxf(0.0f, span(fmaxf(a.x1, b.x1), fminf(a.x2, b.x2), offset));
    const float height = fmaxf(0.0f, span(fmaxf(a.y1, b.y1), fminf(a.y2, b.y2), offset));
    const float both = multiply(width, height);
    const float either = subtract(add(a.area, b.area), both);
    return quotient(both, either) > threshold;
}

}  // namespace trtyard
