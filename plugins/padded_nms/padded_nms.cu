// PaddedNMS: filter, sort, suppress within each class, merge the classes. See README.md.
//
// A segment is one class of one image: boxes_per_class scores. Four launches at most:
//
//   sort_tiles   scores -> keys, sorted within tiles of each segment
//   merge_tiles  tiles -> one sorted run a segment (only where a segment has several tiles)
//   suppress     sorted run -> the segment's survivors, best first, at most keep_top_k
//   merge_classes  survivors of all classes of an image -> indices and count
//
// A key is 64 bits: the score, mapped so that a better one is a smaller number, above the flat index
// class * boxes_per_class + box. Keys are distinct and their order is the op's order, ties included,
// so every step is deterministic. Sorted runs are merged by rank: an element's place in the whole is
// the sum of its lower bounds in all runs. That is one independent step for every element.
#include "common/element.cuh"
#include "common/launch.cuh"
#include "padded_nms/box.cuh"

// Named, not anonymous: nvcc would name an anonymous one after the folder it is run in, and the same
// sources would give other bytes elsewhere.
namespace trtyard {
namespace padded_nms {

using Key = unsigned long long;

constexpr Key kNoKey = ~Key{0};  // sorts behind every real key: no score maps to all ones

constexpr int kWarp = 32;
constexpr unsigned kFullWarp = 0xffffffffu;

// A tile is sorted by one block in shared memory; a thread compares one pair in each step.
constexpr int kMinTile = 2 * kWarp;
constexpr int kMaxTile = 2048;

constexpr int kMergeThreads = 256;
constexpr int kSuppressWarps = 16;

// Enough blocks to fill any device of today a few times; more would only queue.
constexpr int64_t kMergeBlocks = 4096;

__device__ Key make_key(float score, int index) {
    const float canonical = score == 0.0f ? 0.0f : score;  // -0.0 ties with 0.0
    const unsigned bits = __float_as_uint(canonical);
    const unsigned ascending = (bits >> 31) != 0u ? ~bits : bits | 0x80000000u;
    return (static_cast<Key>(~ascending) << 32) | static_cast<unsigned>(index);
}

__device__ int index_of(Key key) { return static_cast<int>(key & 0xffffffffu); }

// How many of the `count` ascending keys of `run` are below `key`.
__device__ int lower_bound(const Key* run, int count, Key key) {
    int low = 0;
    while (count > 0) {
        const int half = count / 2;
        if (run[low + half] < key) {
            low += half + 1;
            count -= half + 1;
        } else {
            count = half;
        }
    }
    return low;
}

// One block a tile. Writes the tile's keys in ascending order, those of dropped scores (kNoKey) last,
// and how many are real.
template <typename T>
__global__ void __launch_bounds__(kMaxTile / 2) sort_tiles(
    const T* scores, Key* keys, int* tile_counts, int classes, int boxes, int tile, int tiles,
    float score_threshold) {
    __shared__ Key shared[kMaxTile];
    const int segment = blockIdx.x / tiles;
    const int first = static_cast<int>(blockIdx.x % tiles) * tile;
    const int class_base = segment % classes * boxes;
    const int64_t segment_base = static_cast<int64_t>(segment) * boxes;

    for (int i = threadIdx.x; i < tile; i += blockDim.x) {
        Key key = kNoKey;
        if (first + i < boxes) {
            const float score = to_float(scores[segment_base + first + i]);
            if (score > score_threshold) {  // false for NaN
                key = make_key(score, class_base + first + i);
            }
        }
        shared[i] = key;
    }
    __syncthreads();

    // Bitonic sort: runs of `size` become sorted, alternately up and down, for growing powers of two.
    const int pair = static_cast<int>(threadIdx.x);
    for (int size = 2; size <= tile; size *= 2) {
        for (int stride = size / 2; stride > 0; stride /= 2) {
            const int low = 2 * pair - (pair & (stride - 1));
            const int high = low + stride;
            const bool up = (low & size) == 0;
            const Key a = shared[low];
            const Key b = shared[high];
            if ((a > b) == up) {
                shared[low] = b;
                shared[high] = a;
            }
            __syncthreads();
        }
    }

    for (int i = threadIdx.x; i < tile; i += blockDim.x) {
        const Key key = shared[i];
        if (first + i < boxes) {
            keys[segment_base + first + i] = key;
        }
        const bool last = key != kNoKey && (i + 1 == tile || shared[i + 1] == kNoKey);
        if (last || (i == 0 && key == kNoKey)) {
            tile_counts[blockIdx.x] = last ? i + 1 : 0;
        }
    }
}

// One thread a key: its place in the segment's run.
__global__ void __launch_bounds__(kMergeThreads) merge_tiles(
    const Key* keys, const int* tile_counts, Key* sorted, int segments, int boxes, int tile,
    int tiles) {
    const int64_t item = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    const int segment = static_cast<int>(item / boxes);
    const int box = static_cast<int>(item % boxes);
    if (segment >= segments) {
        return;
    }
    const int* counts = tile_counts + static_cast<int64_t>(segment) * tiles;
    const Key* run = keys + static_cast<int64_t>(segment) * boxes;
    const int own = box / tile;
    if (box - own * tile >= counts[own]) {
        return;
    }
    const Key key = run[box];
    int rank = box - own * tile;
    for (int other = 0; other < tiles; ++other) {
        if (other != own) {
            rank += lower_bound(run + static_cast<int64_t>(other) * tile, counts[other], key);
        }
    }
    sorted[static_cast<int64_t>(segment) * boxes + rank] = key;
}

// One block a segment. Takes the sorted candidates 32 at a time, one a lane, the same ones in every
// warp: the warps share out the boxes already kept, and the pairs within the 32.
template <typename T>
__global__ void __launch_bounds__(kSuppressWarps * kWarp) suppress(
    const T* boxes, const Key* sorted, const int* tile_counts, Key* kept_keys, float4* kept_boxes,
    int* kept_counts, int classes, int box_classes, int boxes_per_class, int tiles, int limit,
    float iou_threshold, float offset) {
    __shared__ unsigned beaten[kSuppressWarps];  // lanes that lose against a kept box
    __shared__ unsigned losers[kWarp];           // lanes that lose against this lane, if it is kept
    const int segment = static_cast<int>(blockIdx.x);
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const int warp = static_cast<int>(threadIdx.x) / kWarp;

    const int image = segment / classes;
    const int class_index = segment % classes;
    const int box_class = box_classes == 1 ? 0 : class_index;
    const int first_index = class_index * boxes_per_class;
    boxes += (static_cast<int64_t>(image) * box_classes + box_class) * boxes_per_class * 4;
    sorted += static_cast<int64_t>(segment) * boxes_per_class;
    kept_keys += static_cast<int64_t>(segment) * limit;
    kept_boxes += static_cast<int64_t>(segment) * limit;

    int candidates = 0;
    for (int tile = 0; tile < tiles; ++tile) {
        candidates += tile_counts[static_cast<int64_t>(segment) * tiles + tile];
    }

    int kept = 0;
    for (int first = 0; first < candidates && kept < limit; first += kWarp) {
        const bool present = first + lane < candidates;
        const Key key = present ? sorted[first + lane] : kNoKey;
        const Box mine =
            present ? load_box(boxes, index_of(key) - first_index, offset) : empty_box();

        bool lost = !present;
        for (int i = warp; i < kept && !__all_sync(kFullWarp, lost); i += kSuppressWarps) {
            lost = lost || overlaps(make_box(kept_boxes[i], offset), mine, iou_threshold, offset);
        }
        const unsigned lost_lanes = __ballot_sync(kFullWarp, lost);
        if (lane == 0) {
            beaten[warp] = lost_lanes;
        }
        for (int i = warp; i < kWarp; i += kSuppressWarps) {
            const Box other = shuffle_box(kFullWarp, mine, i);
            const bool loses = lane > i && overlaps(other, mine, iou_threshold, offset);
            const unsigned losing_lanes = __ballot_sync(kFullWarp, loses);
            if (lane == 0) {
                losers[i] = losing_lanes;
            }
        }
        __syncthreads();

        // Every warp comes to the same answer, so nobody has to wait for one that does.
        unsigned dead = 0;
        for (int i = 0; i < kSuppressWarps; ++i) {
            dead |= beaten[i];
        }
        unsigned alive = ~dead;
        for (int i = 0; i < kWarp; ++i) {
            if ((alive >> i & 1u) != 0u) {
                alive &= ~losers[i];
            }
        }
        const int place = kept + __popc(alive & ((1u << lane) - 1u));
        if (warp == 0 && (alive >> lane & 1u) != 0u && place < limit) {
            kept_keys[place] = key;
            kept_boxes[place] = make_float4(mine.x1, mine.y1, mine.x2, mine.y2);
        }
        kept = min(limit, kept + __popc(alive));
        __syncthreads();  // kept_boxes are written; beaten and losers may be overwritten
    }
    if (threadIdx.x == 0) {
        kept_counts[segment] = kept;
    }
}

// blocks_per_image blocks an image. Every survivor finds its place among those of all classes; the
// places behind the last one become -1. `classes` may be 0: nothing but padding then.
__global__ void __launch_bounds__(kMergeThreads) merge_classes(
    const Key* kept_keys, const int* kept_counts, int* indices, int* count, int classes, int limit,
    int keep_top_k, int blocks_per_image) {
    __shared__ int survivors;
    const int image = static_cast<int>(blockIdx.x) / blocks_per_image;
    const int part = static_cast<int>(blockIdx.x) % blocks_per_image;
    kept_keys += static_cast<int64_t>(image) * classes * limit;
    kept_counts += static_cast<int64_t>(image) * classes;
    indices += static_cast<int64_t>(image) * keep_top_k;

    if (threadIdx.x == 0) {
        survivors = 0;
    }
    __syncthreads();
    int sum = 0;
    for (int i = threadIdx.x; i < classes; i += kMergeThreads) {
        sum += kept_counts[i];
    }
    atomicAdd(&survivors, sum);
    __syncthreads();
    const int found = min(survivors, keep_top_k);
    if (part == 0 && threadIdx.x == 0) {
        count[image] = found;
    }

    const int64_t slots = static_cast<int64_t>(classes) * limit;
    const int64_t items = slots > keep_top_k ? slots : keep_top_k;
    const int64_t stride = static_cast<int64_t>(blocks_per_image) * kMergeThreads;
    for (int64_t i = static_cast<int64_t>(part) * kMergeThreads + threadIdx.x; i < items;
         i += stride) {
        if (i >= found && i < keep_top_k) {
            indices[i] = -1;
        }
        const int own = i < slots ? static_cast<int>(i / limit) : classes;
        if (own == classes || i - static_cast<int64_t>(own) * limit >= kept_counts[own]) {
            continue;
        }
        const Key key = kept_keys[i];
        int rank = static_cast<int>(i - static_cast<int64_t>(own) * limit);
        for (int other = 0; other < classes && rank < keep_top_k; ++other) {
            if (other != own) {
                rank += lower_bound(
                    kept_keys + static_cast<int64_t>(other) * limit, kept_counts[other], key);
            }
        }
        if (rank < keep_top_k) {
            indices[rank] = index_of(key);
        }
    }
}

// Sizes and workspace pieces that follow from the arguments.
struct Plan {
    int64_t segments = 0;
    int tile = kMinTile;
    int tiles = 0;
    int limit = 0;  // survivors that a segment can give to the result
    Key* keys = nullptr;
    Key* sorted = nullptr;  // the same as keys where a segment is one tile
    int* tile_counts = nullptr;
    Key* kept_keys = nullptr;
    float4* kept_boxes = nullptr;
    int* kept_counts = nullptr;
    size_t bytes = 0;

    Plan(int batch, int classes, int boxes, int keep_top_k, void* workspace) {
        if (batch == 0 || classes == 0 || boxes == 0 || keep_top_k == 0) {
            return;
        }
        segments = static_cast<int64_t>(batch) * classes;
        while (tile < boxes && tile < kMaxTile) {
            tile *= 2;
        }
        tiles = static_cast<int>(ceil_div(boxes, tile));
        limit = keep_top_k < boxes ? keep_top_k : boxes;
        Workspace pieces(workspace);
        keys = pieces.take<Key>(segments * boxes);
        sorted = tiles == 1 ? keys : pieces.take<Key>(segments * boxes);
        tile_counts = pieces.take<int>(segments * tiles);
        kept_keys = pieces.take<Key>(segments * limit);
        kept_boxes = pieces.take<float4>(segments * limit);
        kept_counts = pieces.take<int>(segments);
        bytes = pieces.used();
    }
};

int32_t check_sizes(int64_t batch, int64_t classes, int64_t boxes, int64_t keep_top_k) {
    if (batch < 0 || classes < 0 || boxes < 0 || keep_top_k < 0) {
        return TRTYARD_BAD_ARGUMENT;
    }
    const bool fits = boxes == 0 || (classes <= kMaxInt32 / boxes &&
                                     (classes == 0 || batch <= kMaxInt32 / (classes * boxes)));
    return fits ? TRTYARD_OK : TRTYARD_TOO_LARGE;
}

template <typename T>
int32_t run(
    const T* boxes, const T* scores, int32_t* indices, int32_t* count, int batch, int classes,
    int box_classes, int boxes_per_class, int keep_top_k, float iou_threshold,
    float score_threshold, int box_offset, const Plan& plan, void* stream) {
    const int merged_classes = plan.segments == 0 ? 0 : classes;
    if (plan.segments > 0) {
        int32_t status = launch(
            sort_tiles<T>, plan.segments * plan.tiles, plan.tile / 2, stream, scores, plan.keys,
            plan.tile_counts, classes, boxes_per_class, plan.tile, plan.tiles, score_threshold);
        if (status == TRTYARD_OK && plan.tiles > 1) {
            status = launch(
                merge_tiles, ceil_div(plan.segments * boxes_per_class, kMergeThreads),
                kMergeThreads, stream, plan.keys, plan.tile_counts, plan.sorted,
                static_cast<int>(plan.segments), boxes_per_class, plan.tile, plan.tiles);
        }
        if (status == TRTYARD_OK) {
            status = launch(
                suppress<T>, plan.segments, kSuppressWarps * kWarp, stream, boxes, plan.sorted,
                plan.tile_counts, plan.kept_keys, plan.kept_boxes, plan.kept_counts, classes,
                box_classes, boxes_per_class, plan.tiles, plan.limit, iou_threshold,
                static_cast<float>(box_offset));
        }
        if (status != TRTYARD_OK) {
            return status;
        }
    }
    const int64_t slots = static_cast<int64_t>(merged_classes) * plan.limit;
    const int64_t wanted = ceil_div(slots > keep_top_k ? slots : keep_top_k, kMergeThreads);
    const int64_t most = kMergeBlocks / batch > 1 ? kMergeBlocks / batch : 1;
    const int64_t blocks = wanted < 1 ? 1 : wanted < most ? wanted : most;
    return launch(
        merge_classes, blocks * batch, kMergeThreads, stream, plan.kept_keys, plan.kept_counts,
        indices, count, merged_classes, plan.limit, keep_top_k, static_cast<int>(blocks));
}

}  // namespace padded_nms
}  // namespace trtyard

extern "C" size_t trtyard_padded_nms_workspace(
    int32_t batch, int32_t classes, int32_t boxes, int32_t keep_top_k) {
    if (trtyard::padded_nms::check_sizes(batch, classes, boxes, keep_top_k) != TRTYARD_OK) {
        return 0;
    }
    return trtyard::padded_nms::Plan(batch, classes, boxes, keep_top_k, nullptr).bytes;
}

extern "C" int32_t trtyard_padded_nms(
    const void* boxes, const void* scores, int32_t* indices, int32_t* count, int32_t batch,
    int32_t classes, int32_t box_classes, int32_t boxes_per_class, int32_t keep_top_k,
    float iou_threshold, float score_threshold, int32_t box_offset, int32_t dtype, void* workspace,
    size_t workspace_bytes, void* stream) {
    using namespace trtyard;
    using namespace trtyard::padded_nms;
    int32_t status = check_sizes(batch, classes, boxes_per_class, keep_top_k);
    if (status != TRTYARD_OK) {
        return status;
    }
    if (!is_element_type(dtype)) {
        return TRTYARD_UNSUPPORTED_DTYPE;
    }
    const bool attributes_good = (box_classes == 1 || box_classes == classes) &&
                                 (box_offset == 0 || box_offset == 1) &&
                                 iou_threshold == iou_threshold &&      // not NaN
                                 score_threshold == score_threshold;
    if (!attributes_good) {
        return TRTYARD_BAD_ARGUMENT;
    }
    if (batch == 0) {
        return TRTYARD_OK;
    }
    const Plan plan(batch, classes, boxes_per_class, keep_top_k, workspace);
    const bool reads = plan.segments > 0;
    if (count == nullptr || (keep_top_k > 0 && indices == nullptr) ||
        (reads && (boxes == nullptr || scores == nullptr))) {
        return TRTYARD_BAD_ARGUMENT;
    }
    status = check_workspace(workspace, workspace_bytes, plan.bytes);
    if (status != TRTYARD_OK) {
        return status;
    }
    return with_element_type(dtype, [&](auto element) {
        using T = decltype(element);
        return run(
            static_cast<const T*>(boxes), static_cast<const T*>(scores), indices, count, batch,
            classes, box_classes, boxes_per_class, keep_top_k, iou_threshold, score_threshold,
            box_offset, plan, stream);
    });
}
