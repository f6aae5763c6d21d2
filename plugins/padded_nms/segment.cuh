// One block for each segment (a class of an image): filters, sorts and suppresses in shared memory.
#pragma once

#include "common/async.cuh"
#include "padded_nms/bins.cuh"
#include "padded_nms/box.cuh"
#include "padded_nms/keys.cuh"

namespace trtyard {
namespace padded_nms {

struct Problem {
    int classes, box_classes, boxes;  // boxes of a class
    int limit;                        // the most survivors of a segment
    float iou_threshold, score_threshold, offset;
};

__device__ inline Box shuffle_box(unsigned mask, const Box& box, int lane) {
    return {
        __shfl_sync(mask, box.x1, lane), __shfl_sync(mask, box.y1, lane),
        __shfl_sync(mask, box.x2, lane), __shfl_sync(mask, box.y2, lane),
        __shfl_sync(mask, box.area, lane)};
}

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

// Returns which of a warp's candidates survive: those in `present` that no survivor suppresses. `rivals` has
// the bits of earlier candidates that overlap the lane's own. Each round decides at least one more candidate,
// and usually most of them. The survivors are the only set that a round does not change.
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

// Shared memory for a segment of `tile` boxes, a power of two: boxes and areas, and keys. The sort uses the
// space of boxes and areas first (for each box two keys, or a key and kBinsPerKey bins).
__host__ __device__ constexpr size_t segment_bytes(int tile) {
    return static_cast<size_t>(tile) * (sizeof(float4) + sizeof(float) + sizeof(Key));
}

// Sorts the segment's candidates, the scores above the threshold, into `keys`, `corners` and `areas`. kItems
// times the number of threads is at least the tile. `corners` and `areas` are scratch memory first. Returns the
// number of candidates to every thread, after a barrier.
template <int kItems, typename T>
__device__ int sort_segment(
    const T* boxes, const T* scores, const Problem& problem, int segment, int tile, Key* keys,
    float4* corners, float* areas, BinScratch& scratch) {
    const int thread = static_cast<int>(threadIdx.x);
    const int threads = static_cast<int>(blockDim.x);
    scores += static_cast<int64_t>(segment) * problem.boxes;
    const int base = segment % problem.classes * problem.boxes;
    float score[kItems];
    float4 own_corners[kItems];
    const bool aligned = reinterpret_cast<uintptr_t>(boxes) % sizeof(Four<T>) == 0;
#pragma unroll
    for (int k = 0; k < kItems; ++k) {  // boxes too: they load while the keys are sorted
        const int box = thread + k * threads;
        const bool exists = box < problem.boxes;
        score[k] = exists ? to_float(scores[box]) : 0.0f;
        own_corners[k] = exists ? load_corners(boxes, box, aligned)
                                : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    }
    Key own[kItems];
#pragma unroll
    for (int k = 0; k < kItems; ++k) {
        const int box = thread + k * threads;
        const bool passes = box < problem.boxes && score[k] > problem.score_threshold;  // not NaN
        own[k] = passes ? make_key(score[k], base + box) : kNoKey;
    }

    Key* buffer = reinterpret_cast<Key*>(corners);
    int places[kItems];
    int candidates = 0;
    const bool placed = place_in_bins(
        own, places, buffer, reinterpret_cast<int*>(buffer + tile), scratch, candidates);
    __syncthreads();
    if (!placed) {
        sort_block(own, buffer, tile, keys);
        __syncthreads();
    }
#pragma unroll
    for (int k = 0; k < kItems; ++k) {
        const int item = thread + k * threads;
        if (placed ? own[k] != kNoKey : item < candidates) {
            const int place = placed ? places[k] : item;
            const float4 at =
                placed ? own_corners[k] : load_corners(boxes, index_of(keys[item]) - base, aligned);
            const Box box = make_box(at, problem.offset);
            corners[place] = at;
            areas[place] = box.area;
            if (placed) {
                keys[place] = own[k];
            }
        }
    }
    return candidates;
}

// Processes the sorted candidates 32 at a time, one for each lane, the same in every warp. The warps divide
// the boxes already kept, and the pairs among the 32. Survivors go to kept_keys, or for one class directly to
// indices and count.
template <typename T>
__global__ void __launch_bounds__(kSortThreads) suppress_segments(
    const T* boxes, const T* scores, Key* kept_keys, int* kept_counts, int* indices, int* count,
    int keep_top_k, int tile, Problem problem) {
    extern __shared__ float4 shared[];
    __shared__ BinScratch scratch;
    __shared__ unsigned beaten[kWarp];  // for each warp: lanes that a kept box suppresses
    __shared__ unsigned rivals[kWarp];  // for each candidate: earlier ones that overlap it
    let_next_kernel_start();
    float4* corners = shared;
    float* areas = reinterpret_cast<float*>(corners + tile);
    Key* keys = reinterpret_cast<Key*>(areas + tile);
    const int segment = static_cast<int>(blockIdx.x);
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const int warp = static_cast<int>(threadIdx.x) / kWarp;
    const int warps = static_cast<int>(blockDim.x) / kWarp;

    boxes = boxes_of(boxes, problem, segment);
    const int candidates =
        tile <= static_cast<int>(blockDim.x)
            ? sort_segment<1>(boxes, scores, problem, segment, tile, keys, corners, areas, scratch)
            : sort_segment<2>(boxes, scores, problem, segment, tile, keys, corners, areas, scratch);
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

        // Every warp computes the same answer, so none has to wait for another.
        const unsigned dead = any_bits(beaten[lane]);
        const unsigned alive = survivors_of(present && (dead >> lane & 1u) == 0u, rivals[lane]);
        const int place = kept + __popc(alive & ((1u << lane) - 1u));
        if (warp == 0 && (alive >> lane & 1u) != 0u && place < problem.limit) {
            // At or before the candidate's own position: later candidates are still undecided.
            keys[place] = key;
            corners[place] = make_float4(mine.x1, mine.y1, mine.x2, mine.y2);
            areas[place] = mine.area;
        }
        kept = min(problem.limit, kept + __popc(alive));
        __syncthreads();  // kept boxes are written; beaten and rivals can be overwritten
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
