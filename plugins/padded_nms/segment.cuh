// One block a segment (a class of an image): filter, sort and suppress in shared memory.
#pragma once

#include "common/async.cuh"
#include "padded_nms/box.cuh"
#include "padded_nms/keys.cuh"

namespace trtyard {
namespace padded_nms {

struct Problem {
    int classes, box_classes, boxes;  // boxes a class
    int limit;                        // survivors that a segment can give
    float iou_threshold, score_threshold, offset;
};

template <typename T>
__device__ inline const T* boxes_of(const T* boxes, const Problem& problem, int segment) {
    const int image = segment / problem.classes;
    const int own = problem.box_classes == 1 ? 0 : segment % problem.classes;
    return boxes + (static_cast<int64_t>(image) * problem.box_classes + own) * problem.boxes * 4;
}

__device__ inline unsigned any_bits(unsigned bits) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    return __reduce_or_sync(kFullWarp, bits);
#else
    for (int step = kWarp / 2; step > 0; step /= 2) {
        bits |= __shfl_xor_sync(kFullWarp, bits, step);
    }
    return bits;
#endif
}

// Which of a warp's candidates survive: `present` ones that no survivor among `rivals`, the bits of
// earlier candidates that overlap the lane's own, suppresses. Each round decides at least one more
// candidate for good, most of them at once; the survivors are the only set that stays as it is.
__device__ inline unsigned survivors_of(bool present, unsigned rivals) {
    unsigned alive = __ballot_sync(kFullWarp, present);
    for (;;) {
        const unsigned next = __ballot_sync(kFullWarp, present && (rivals & alive) == 0u);
        if (next == alive) {
            return alive;
        }
        alive = next;
    }
}

// Shared memory for a segment of `tile` boxes, a power of two: boxes and areas, whose place the sort
// uses first, and keys.
__host__ __device__ constexpr size_t segment_bytes(int tile) {
    return static_cast<size_t>(tile) * (sizeof(float4) + sizeof(float) + sizeof(Key));
}

// Reads the segment's scores, keeps those above the threshold and sorts them into `keys`; `buffer`
// holds two tiles. Returns their number, to every thread, behind a barrier.
template <typename T>
__device__ int sort_segment(
    const T* scores, const Problem& problem, int segment, Key* keys, Key* buffer, int* counter) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    if (threadIdx.x == 0) {
        *counter = 0;
    }
    __syncthreads();
    scores += static_cast<int64_t>(segment) * problem.boxes;
    const int base = segment % problem.classes * problem.boxes;
    for (int first = static_cast<int>(threadIdx.x) - lane; first < problem.boxes;
         first += static_cast<int>(blockDim.x)) {
        const int box = first + lane;
        const float score = box < problem.boxes ? to_float(scores[box]) : 0.0f;
        const bool passes = box < problem.boxes && score > problem.score_threshold;  // not NaN
        const unsigned lanes = __ballot_sync(kFullWarp, passes);
        int place = 0;
        if (lane == 0 && lanes != 0u) {
            place = atomicAdd(counter, __popc(lanes));
        }
        place = __shfl_sync(kFullWarp, place, 0) + __popc(lanes & ((1u << lane) - 1u));
        if (passes) {
            keys[place] = make_key(score, base + box);
        }
    }
    __syncthreads();
    const int count = *counter;
    const int size = padded_size(count);
    const int threads = static_cast<int>(blockDim.x);
    const int thread = static_cast<int>(threadIdx.x);
    if (size <= threads) {
        Key own[1] = {thread < count ? keys[thread] : kNoKey};
        sort_block(own, buffer, size, keys);
    } else {
        Key own[2] = {
            thread < count ? keys[thread] : kNoKey,
            thread + threads < count ? keys[thread + threads] : kNoKey};
        sort_block(own, buffer, size, keys);
    }
    __syncthreads();
    return count;
}

// Takes the sorted candidates 32 at a time, one a lane, the same ones in every warp: the warps share
// out the boxes already kept, and the pairs within the 32. Survivors go to kept_keys, or, where there
// is one class, straight to indices and count.
template <typename T>
__global__ void __launch_bounds__(kSortThreads) suppress_segments(
    const T* boxes, const T* scores, Key* kept_keys, int* kept_counts, int* indices, int* count,
    int keep_top_k, int tile, Problem problem) {
    extern __shared__ float4 shared[];
    __shared__ int counter;
    __shared__ unsigned beaten[kWarp];  // a warp: lanes that lose against a kept box
    __shared__ unsigned rivals[kWarp];  // a candidate: earlier ones that overlap it
    let_next_kernel_start();
    float4* corners = shared;
    float* areas = reinterpret_cast<float*>(corners + tile);
    Key* keys = reinterpret_cast<Key*>(areas + tile);
    const int segment = static_cast<int>(blockIdx.x);
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const int warp = static_cast<int>(threadIdx.x) / kWarp;
    const int warps = static_cast<int>(blockDim.x) / kWarp;

    boxes = boxes_of(boxes, problem, segment);
    for (int i = static_cast<int>(threadIdx.x); i < problem.boxes;
         i += static_cast<int>(blockDim.x)) {
        // On its way while the keys are sorted.
        asm volatile("prefetch.global.L2 [%0];" ::"l"(boxes + static_cast<int64_t>(i) * 4));
    }
    const int candidates = sort_segment(
        scores, problem, segment, keys, reinterpret_cast<Key*>(corners), &counter);
    const int first_index = segment % problem.classes * problem.boxes;
    for (int i = static_cast<int>(threadIdx.x); i < candidates;
         i += static_cast<int>(blockDim.x)) {
        const Box box = load_box(boxes, index_of(keys[i]) - first_index, problem.offset);
        corners[i] = make_float4(box.x1, box.y1, box.x2, box.y2);
        areas[i] = box.area;
    }
    if (threadIdx.x < kWarp) {
        beaten[threadIdx.x] = 0u;
    }
    __syncthreads();

    const auto box_at = [&](int i) {
        const float4 at = corners[i];
        return Box{at.x, at.y, at.z, at.w, areas[i]};
    };
    int kept = 0;
    for (int first = 0; first < candidates && kept < problem.limit; first += kWarp) {
        const bool present = first + lane < candidates;
        const Box mine = present ? box_at(first + lane) : empty_box();
        const Key key = present ? keys[first + lane] : kNoKey;

        bool lost = false;
        for (int i = warp; i < kept; i += warps) {
            lost = lost || overlaps(box_at(i), mine, problem.iou_threshold, problem.offset);
        }
        const unsigned lost_lanes = __ballot_sync(kFullWarp, lost);
        if (lane == 0) {
            beaten[warp] = lost_lanes;
        }
        for (int i = warp; i < kWarp; i += warps) {
            const Box later = shuffle_box(kFullWarp, mine, i);
            const bool overlapping =
                lane < i && overlaps(mine, later, problem.iou_threshold, problem.offset);
            const unsigned bits = __ballot_sync(kFullWarp, overlapping);
            if (lane == 0) {
                rivals[i] = bits;
            }
        }
        __syncthreads();

        // Every warp comes to the same answer, so nobody has to wait for one that does.
        const unsigned dead = any_bits(beaten[lane]);
        const unsigned alive = survivors_of(present && (dead >> lane & 1u) == 0u, rivals[lane]);
        const int place = kept + __popc(alive & ((1u << lane) - 1u));
        if (warp == 0 && (alive >> lane & 1u) != 0u && place < problem.limit) {
            // At or before the candidate's own place: those behind are still to come.
            keys[place] = key;
            corners[place] = make_float4(mine.x1, mine.y1, mine.x2, mine.y2);
            areas[place] = mine.area;
        }
        kept = min(problem.limit, kept + __popc(alive));
        __syncthreads();  // the kept are written; beaten and rivals may be overwritten
    }

    if (problem.classes > 1) {
        kept_keys += static_cast<int64_t>(segment) * problem.limit;
        for (int i = static_cast<int>(threadIdx.x); i < kept; i += static_cast<int>(blockDim.x)) {
            kept_keys[i] = keys[i];
        }
        if (threadIdx.x == 0) {
            kept_counts[segment] = kept;
        }
        return;
    }
    indices += static_cast<int64_t>(segment) * keep_top_k;
    for (int i = static_cast<int>(threadIdx.x); i < keep_top_k;
         i += static_cast<int>(blockDim.x)) {
        indices[i] = i < kept ? index_of(keys[i]) : -1;
    }
    if (threadIdx.x == 0) {
        count[segment] = kept;
    }
}

}  // namespace padded_nms
}  // namespace trtyard
