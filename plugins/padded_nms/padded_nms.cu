// PaddedNMS: filter, sort, suppress in each class, merge the classes. See README.md.
//
// A segment is one class of one image: boxes_per_class scores. There are three algorithms:
//
//   short segments  suppress_segments: all of it in a block's shared memory
//   few long ones   sort_tiles, merge_tiles, then rounds of overlap_tiles and scan_window
//   many long ones  sort_tiles, merge_tiles, suppress: one block for each segment
//
// All end with merge_classes; the first does not need it for one class. Sorted runs are merged by rank: the
// position of an element is the sum of its lower bounds in all runs. Each element is independent.
#include "common/element.cuh"
#include "common/launch.cuh"
#include "padded_nms/rounds.cuh"

// A named namespace: nvcc names an anonymous one after its working folder, and the same sources would give
// different bytes in another folder.
namespace trtyard {
namespace padded_nms {

constexpr int kMergeThreads = 256;
constexpr int kSuppressWarps = 16;

// Enough blocks to fill any current device a few times; more would only queue.
constexpr int64_t kMergeBlocks = 4096;

constexpr int kSortTile = 1024;  // scores of a long segment that one block sorts

constexpr int kMergeRuns = 8;  // searched at once, so that their reads overlap

// With more segments, one block for each is enough work, and rounds would need a large workspace.
constexpr int64_t kRoundSegments = 32;

// One block for each tile of kSortTile scores. Writes the tile's keys in ascending order and their number.
// Dropped scores have no key, so the end of the tile may stay unwritten.
template <typename T>
__global__ void __launch_bounds__(kSortTile) sort_tiles(
    const T* scores, Key* keys, int* tile_counts, int classes, int boxes, int tiles,
    float score_threshold) {
    __shared__ Key shared[2 * kSortTile];
    __shared__ BinScratch scratch;
    let_next_kernel_start();
    const int segment = static_cast<int>(blockIdx.x) / tiles;
    const int first = static_cast<int>(blockIdx.x) % tiles * kSortTile;
    const int class_base = segment % classes * boxes;
    const int64_t segment_base = static_cast<int64_t>(segment) * boxes;
    const int thread = static_cast<int>(threadIdx.x);
    const int box = first + thread;
    Key own[1] = {kNoKey};
    if (box < boxes) {
        const float score = to_float(scores[segment_base + box]);
        if (score > score_threshold) {  // false for NaN
            own[0] = make_key(score, class_base + box);
        }
    }
    int places[1];
    int real = 0;
    if (place_in_bins(own, places, shared, reinterpret_cast<int*>(shared + kSortTile), scratch, real)) {
        if (own[0] != kNoKey) {
            keys[segment_base + first + places[0]] = own[0];
        }
    } else {
        __syncthreads();
        sort_block(own, shared, kSortTile, shared);
        if (thread < real) {
            keys[segment_base + box] = own[0];
        }
    }
    if (thread == 0) {
        tile_counts[blockIdx.x] = real;
    }
}

// One thread for each key: finds its position in the segment.
__global__ void __launch_bounds__(kMergeThreads) merge_tiles(
    const Key* keys, const int* tile_counts, Key* sorted, int segments, int boxes, int tiles) {
    let_next_kernel_start();
    wait_for_prior_kernel();
    const int64_t item = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    const int segment = static_cast<int>(item / boxes);
    const int box = static_cast<int>(item % boxes);
    if (segment >= segments) {
        return;
    }
    const int* counts = tile_counts + static_cast<int64_t>(segment) * tiles;
    const Key* run = keys + static_cast<int64_t>(segment) * boxes;
    const int own = box / kSortTile;
    if (box - own * kSortTile >= counts[own]) {
        return;
    }
    const Key key = run[box];
    int rank = 0;
    for (int base = 0; base < tiles; base += kMergeRuns) {
        int below[kMergeRuns] = {};  // keys of the tile known to be below
        int real[kMergeRuns];        // keys of the tile
#pragma unroll
        for (int k = 0; k < kMergeRuns; ++k) {
            real[k] = base + k < tiles ? counts[base + k] : 0;
        }
        for (int step = kSortTile; step > 0; step /= 2) {
#pragma unroll
            for (int k = 0; k < kMergeRuns; ++k) {
                const bool within = below[k] + step <= real[k];
                const int64_t at = static_cast<int64_t>(base + k) * kSortTile + below[k] + step - 1;
                if (within && run[at] < key) {
                    below[k] += step;
                }
            }
        }
#pragma unroll
        for (int k = 0; k < kMergeRuns; ++k) {
            rank += below[k];
        }
    }
    sorted[static_cast<int64_t>(segment) * boxes + rank] = key;
}

// One block for each segment. Processes the sorted candidates 32 at a time, one for each lane, the same in
// every warp. The warps divide the boxes already kept, and the pairs among the 32.
template <typename T>
__global__ void __launch_bounds__(kSuppressWarps * kWarp) suppress(
    const T* boxes, const Key* sorted, const int* tile_counts, Key* kept_keys, float4* kept_boxes,
    int* kept_counts, int classes, int box_classes, int boxes_per_class, int tiles, int limit,
    float iou_threshold, float offset) {
    __shared__ unsigned beaten[kSuppressWarps];  // lanes that a kept box suppresses
    __shared__ unsigned losers[kWarp];           // lanes that this lane suppresses if it is kept
    let_next_kernel_start();
    wait_for_prior_kernel();
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

        // Every warp computes the same answer, so none has to wait for another.
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
        __syncthreads();  // kept_boxes are written; beaten and losers can be overwritten
    }
    if (threadIdx.x == 0) {
        kept_counts[segment] = kept;
    }
}

// blocks_per_image blocks for each image. The first padding_blocks write the count, and -1 after the last
// index. In the others a warp finds the position of a survivor among those of all classes. `classes` may be
// 0: the result is padding only.
__global__ void __launch_bounds__(kMergeThreads) merge_classes(
    const Key* kept_keys, const int* kept_counts, int* indices, int* count, int classes, int limit,
    int keep_top_k, int blocks_per_image, int padding_blocks) {
    __shared__ int survivors;
    let_next_kernel_start();
    wait_for_prior_kernel();
    const int image = static_cast<int>(blockIdx.x) / blocks_per_image;
    const int part = static_cast<int>(blockIdx.x) % blocks_per_image;
    kept_keys += static_cast<int64_t>(image) * classes * limit;
    kept_counts += static_cast<int64_t>(image) * classes;
    indices += static_cast<int64_t>(image) * keep_top_k;

    if (part < padding_blocks) {
        if (threadIdx.x == 0) {
            survivors = 0;
        }
        __syncthreads();
        int sum = 0;
        for (int i = static_cast<int>(threadIdx.x); i < classes; i += kMergeThreads) {
            sum += min(kept_counts[i], keep_top_k);
        }
        if (sum > 0) {
            atomicAdd(&survivors, min(sum, keep_top_k));
        }
        __syncthreads();
        const int found = min(survivors, keep_top_k);
        if (part == 0 && threadIdx.x == 0) {
            count[image] = found;
        }
        for (int64_t i = static_cast<int64_t>(part) * kMergeThreads + threadIdx.x; i < keep_top_k;
             i += static_cast<int64_t>(padding_blocks) * kMergeThreads) {
            if (i >= found) {
                indices[i] = -1;
            }
        }
        return;
    }
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const int64_t slots = static_cast<int64_t>(classes) * limit;
    constexpr int kWarps = kMergeThreads / kWarp;
    const int64_t stride = static_cast<int64_t>(blocks_per_image - padding_blocks) * kWarps;
    for (int64_t slot = static_cast<int64_t>(part - padding_blocks) * kWarps +
                        static_cast<int>(threadIdx.x) / kWarp;
         slot < slots; slot += stride) {
        const int own = static_cast<int>(slot / limit);
        const int place = static_cast<int>(slot - static_cast<int64_t>(own) * limit);
        if (place >= kept_counts[own]) {
            continue;
        }
        const Key key = kept_keys[slot];
        int rank = lane == 0 ? place : 0;
        for (int other = lane; other < classes; other += kWarp) {
            if (other != own) {
                rank += lower_bound(
                    kept_keys + static_cast<int64_t>(other) * limit, kept_counts[other], key);
            }
        }
        for (int step = kWarp / 2; step > 0; step /= 2) {
            rank += __shfl_xor_sync(kFullWarp, rank, step);
        }
        if (lane == 0 && rank < keep_top_k) {
            indices[rank] = index_of(key);
        }
    }
}

// For one class the survivors are in order already: copies them.
__global__ void __launch_bounds__(kMergeThreads) copy_survivors(
    const Key* kept_keys, const int* kept_counts, int* indices, int* count, int limit,
    int keep_top_k) {
    let_next_kernel_start();
    wait_for_prior_kernel();
    const int image = static_cast<int>(blockIdx.x);
    const int kept = kept_counts[image];
    for (int i = static_cast<int>(threadIdx.x); i < keep_top_k; i += kMergeThreads) {
        indices[static_cast<int64_t>(image) * keep_top_k + i] =
            i < kept ? index_of(kept_keys[static_cast<int64_t>(image) * limit + i]) : -1;
    }
    if (threadIdx.x == 0) {
        count[image] = kept;
    }
}

// Sizes and workspace pieces for the arguments.
struct Plan {
    int64_t segments = 0;
    int tile = 0;   // boxes; a short segment is one tile, a power of two
    int tiles = 0;  // of a segment
    int limit = 0;  // the most survivors of a segment in the result
    bool rounds = false;
    Key* keys = nullptr;
    Key* sorted = nullptr;
    int* tile_counts = nullptr;
    Key* kept_keys = nullptr;
    float4* kept_boxes = nullptr;
    int* kept_counts = nullptr;
    Bits* overlap = nullptr;
    Bits* lost = nullptr;
    Progress* progress = nullptr;
    size_t bytes = 0;  // also enough for all smaller sizes: an engine asks for its largest only

    Plan(int batch, int classes, int boxes, int keep_top_k, void* workspace) {
        if (batch == 0 || classes == 0 || boxes == 0 || keep_top_k == 0) {
            return;
        }
        segments = static_cast<int64_t>(batch) * classes;
        tile = boxes > kMaxTile ? kSortTile : boxes > kMinTile ? padded_size(boxes) : kMinTile;
        tiles = static_cast<int>(ceil_div(boxes, tile));
        limit = keep_top_k < boxes ? keep_top_k : boxes;
        rounds = tiles > 1 && segments <= kRoundSegments;
        Workspace pieces(workspace);
        if (tiles > 1 || classes > 1) {
            kept_keys = pieces.take<Key>(segments * limit);
            kept_counts = pieces.take<int>(segments);
        }
        if (tiles > 1) {
            keys = pieces.take<Key>(segments * boxes);
            sorted = pieces.take<Key>(segments * boxes);
            tile_counts = pieces.take<int>(segments * tiles);
            kept_boxes = pieces.take<float4>(segments * limit);
        }
        if (tiles > 1) {  // not only for rounds: with fewer segments rounds are used
            const int64_t most = segments < kRoundSegments ? segments : kRoundSegments;
            overlap = pieces.take<Bits>(most * kWindow * kWindowTiles);
            lost = pieces.take<Bits>(most * kWindowTiles);
            progress = pieces.take<Progress>(most);
        }
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
struct Call {
    const T* boxes;
    const T* scores;
    int32_t* indices;
    int32_t* count;
    int batch, keep_top_k;
    Problem problem;
    Plan plan;
    Device device;
    void* stream;

    // A kernel after another one of the same call.
    Grid after(int64_t blocks, int threads) const {
        Grid grid(blocks, threads, stream);
        grid.overlaps_prior = device.overlaps_launches();
        return grid;
    }
};

template <typename T>
int32_t run_short(const Call<T>& call) {
    const Plan& plan = call.plan;
    const int threads = plan.tile < kSortThreads ? plan.tile : kSortThreads;
    Grid grid(plan.segments, threads, call.stream);
    grid.shared_bytes = segment_bytes(plan.tile);
    return launch(
        suppress_segments<T>, grid, call.boxes, call.scores, plan.kept_keys, plan.kept_counts,
        call.indices, call.count, call.keep_top_k, plan.tile, call.problem);
}

template <typename T>
int32_t run_rounds(const Call<T>& call) {
    const Plan& plan = call.plan;
    Round round{plan.sorted, plan.tile_counts, plan.tiles, plan.overlap, plan.lost,
                plan.progress, plan.kept_keys, plan.kept_boxes, plan.kept_counts, 0};
    int32_t status = TRTYARD_OK;
    for (int64_t first = 0; first < call.problem.boxes && status == TRTYARD_OK;
         first += kWindow) {
        round.first = static_cast<int>(first);
        const int64_t kept = first < plan.limit ? first : plan.limit;  // the most before this round
        const int64_t blocks = kPairTiles + ceil_div(kept, kTileSide) * kWindowTiles;
        status = launch(
            overlap_tiles<T>, call.after(plan.segments * blocks, kTileSide), call.boxes, round,
            call.problem, static_cast<int>(blocks));
        if (status == TRTYARD_OK) {
            status = launch(
                scan_window<T>, call.after(plan.segments, kScanWarps * kWarp), call.boxes, round,
                call.problem);
        }
    }
    return status;
}

template <typename T>
int32_t run_long(const Call<T>& call) {
    const Plan& plan = call.plan;
    const Problem& problem = call.problem;
    int32_t status = launch(
        sort_tiles<T>, plan.segments * plan.tiles, kSortTile, call.stream, call.scores,
        plan.keys, plan.tile_counts, problem.classes, problem.boxes, plan.tiles,
        problem.score_threshold);
    if (status == TRTYARD_OK) {
        status = launch(
            merge_tiles,
            call.after(ceil_div(plan.segments * problem.boxes, kMergeThreads), kMergeThreads),
            plan.keys, plan.tile_counts, plan.sorted, static_cast<int>(plan.segments),
            problem.boxes, plan.tiles);
    }
    if (status != TRTYARD_OK) {
        return status;
    }
    if (plan.rounds) {
        return run_rounds(call);
    }
    return launch(
        suppress<T>, call.after(plan.segments, kSuppressWarps * kWarp), call.boxes, plan.sorted,
        plan.tile_counts, plan.kept_keys, plan.kept_boxes, plan.kept_counts, problem.classes,
        problem.box_classes, problem.boxes, plan.tiles, plan.limit, problem.iou_threshold,
        problem.offset);
}

template <typename T>
int32_t run(const Call<T>& call) {
    const Plan& plan = call.plan;
    const int classes = plan.segments == 0 ? 0 : call.problem.classes;
    if (plan.segments > 0) {
        const int32_t status = plan.tiles == 1 ? run_short(call) : run_long(call);
        if (status != TRTYARD_OK) {
            return status;
        }
    }
    Grid grid = plan.segments > 0 ? call.after(call.batch, kMergeThreads)
                                  : Grid(call.batch, kMergeThreads, call.stream);
    if (classes == 1) {
        return plan.tiles == 1
                   ? static_cast<int32_t>(TRTYARD_OK)  // the results are written already
                   : launch(
                         copy_survivors, grid, plan.kept_keys, plan.kept_counts, call.indices,
                         call.count, plan.limit, call.keep_top_k);
    }
    const int64_t slots = static_cast<int64_t>(classes) * plan.limit;
    const int64_t most = kMergeBlocks / call.batch > 1 ? kMergeBlocks / call.batch : 1;
    const auto at_most = [&](int64_t blocks) { return blocks < most ? blocks : most; };
    const int64_t padding = at_most(ceil_div(int64_t{call.keep_top_k} + 1, kMergeThreads));
    const int64_t merging = at_most(ceil_div(slots, kMergeThreads / kWarp));
    grid.blocks = call.batch * (padding + merging);
    return launch(
        merge_classes, grid, plan.kept_keys, plan.kept_counts, call.indices, call.count, classes,
        plan.limit, call.keep_top_k, static_cast<int>(padding + merging),
        static_cast<int>(padding));
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
    Device device;
    status = device.query();
    if (status != TRTYARD_OK) {
        return status;
    }
    const Problem problem{classes, box_classes, boxes_per_class, plan.limit, iou_threshold,
                          score_threshold, static_cast<float>(box_offset)};
    return with_element_type(dtype, [&](auto element) {
        using T = decltype(element);
        return run(Call<T>{
            static_cast<const T*>(boxes), static_cast<const T*>(scores), indices, count, batch,
            keep_top_k, problem, plan, device, stream});
    });
}
