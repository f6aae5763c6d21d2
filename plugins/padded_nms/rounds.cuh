// Suppression of long segments with many blocks: windows of sorted candidates, one after the other.
//
// A round processes the next kWindow candidates. overlap_tiles compares all pairs of them, and each of them
// with the boxes kept in earlier rounds, in tiles of 64 x 64. scan_window then scans the bits. After the round
// that reaches the limit, further rounds do nothing.
#pragma once

#include "padded_nms/segment.cuh"

namespace trtyard {
namespace padded_nms {

using Bits = unsigned long long;

constexpr int kTileSide = 64;  // bits of a word
constexpr int kWindowTiles = kWarp;
constexpr int kWindow = kTileSide * kWindowTiles;
constexpr int kPairTiles = kWindowTiles * (kWindowTiles + 1) / 2;
constexpr int kScanWarps = 16;
constexpr int kScanRows = kTileSide / kScanWarps;  // of a tile, for each warp

struct Progress {
    int kept;
    int done;
};

// A segment's part of the workspace.
struct Round {
    const Key* sorted;       // [segments][boxes]
    const int* tile_counts;  // [segments][tiles]
    int tiles;
    Bits* overlap;      // [segments][kWindow][kWindowTiles]
    Bits* lost;         // [segments][kWindowTiles]: candidates that overlap a box kept before
    Progress* progress;  // [segments]
    Key* kept_keys;     // [segments][limit]
    float4* kept_boxes;  // [segments][limit]
    int* kept_counts;   // [segments]
    int first;          // the first candidate of the window
};

__device__ inline int candidates_of(const Round& round, int segment) {
    int sum = 0;
    for (int tile = 0; tile < round.tiles; ++tile) {
        sum += round.tile_counts[static_cast<int64_t>(segment) * round.tiles + tile];
    }
    return sum;
}

// One block of 64 threads for each pair of tiles, one thread for each candidate of the later tile. The first
// kPairTiles blocks of a segment compare the window with itself, the others with the kept boxes.
template <typename T>
__global__ void __launch_bounds__(kTileSide) overlap_tiles(
    const T* boxes, Round round, Problem problem, int blocks_per_segment) {
    __shared__ float4 corners[kTileSide];
    __shared__ float areas[kTileSide];
    let_next_kernel_start();
    wait_for_prior_kernel();
    const int segment = static_cast<int>(blockIdx.x) / blocks_per_segment;
    const int pair = static_cast<int>(blockIdx.x) % blocks_per_segment;
    const int thread = static_cast<int>(threadIdx.x);
    const Progress progress =
        round.first == 0 ? Progress{0, 0} : round.progress[segment];
    if (progress.done != 0) {
        return;
    }
    const bool within = pair < kPairTiles;
    int rows = 0;     // the tile of the threads' own candidates
    int columns = 0;  // the tile that all threads read: the same, an earlier one, or kept boxes
    if (within) {
        while ((rows + 1) * (rows + 2) / 2 <= pair) {
            ++rows;
        }
        columns = pair - rows * (rows + 1) / 2;
    } else {
        rows = (pair - kPairTiles) % kWindowTiles;
        columns = (pair - kPairTiles) / kWindowTiles;
        if (columns * kTileSide >= progress.kept) {
            return;
        }
    }
    const int count = min(kWindow, candidates_of(round, segment) - round.first);
    if (rows * kTileSide >= count) {
        return;
    }
    boxes = boxes_of(boxes, problem, segment);
    const int first_index = segment % problem.classes * problem.boxes;
    const Key* sorted = round.sorted + static_cast<int64_t>(segment) * problem.boxes + round.first;
    const int column = columns * kTileSide + thread;
    const int column_count = within ? count : progress.kept;
    Box other = empty_box();
    if (column < column_count) {
        if (within) {
            other = load_box(boxes, index_of(sorted[column]) - first_index, problem.offset);
        } else {
            other = make_box(
                round.kept_boxes[static_cast<int64_t>(segment) * problem.limit + column],
                problem.offset);
        }
    }
    corners[thread] = make_float4(other.x1, other.y1, other.x2, other.y2);
    areas[thread] = other.area;
    const int row = rows * kTileSide + thread;
    const Box mine = row < count
                         ? load_box(boxes, index_of(sorted[row]) - first_index, problem.offset)
                         : empty_box();
    __syncthreads();

    Bits bits = 0;
    const int here = min(kTileSide, column_count - columns * kTileSide);
#pragma unroll 4
    for (int i = 0; i < here; ++i) {
        const float4 at = corners[i];
        const Box box{at.x, at.y, at.z, at.w, areas[i]};
        if (overlaps(box, mine, problem.iou_threshold, problem.offset)) {
            bits |= Bits{1} << i;
        }
    }
    if (within) {
        if (rows == columns) {
            bits &= (Bits{1} << thread) - 1;
        }
        if (row < count) {
            round.overlap
                [(static_cast<int64_t>(segment) * kWindow + row) * kWindowTiles + columns] = bits;
        }
    } else {
        const unsigned losers = __ballot_sync(kFullWarp, bits != 0);
        if (thread % kWarp == 0 && losers != 0u) {
            atomicOr(
                &round.lost[static_cast<int64_t>(segment) * kWindowTiles + rows],
                static_cast<Bits>(losers) << (thread / kWarp * kWarp));
        }
    }
}

// One block for each segment: finds the candidates of the window that survive. The warps divide the 64
// candidates of a tile to find those that overlap a survivor of an earlier tile. Then each warp resolves the
// whole tile.
template <typename T>
__global__ void __launch_bounds__(kScanWarps * kWarp) scan_window(
    const T* boxes, Round round, Problem problem) {
    // Two of each: one tile's values are still read while the next tile's are written.
    __shared__ unsigned losers[2][kScanWarps];  // kScanRows bits
    __shared__ Bits rivals[2][kTileSide];
    __shared__ unsigned short survivors[kWindow];  // positions in the window, in order
    let_next_kernel_start();
    wait_for_prior_kernel();
    const int segment = static_cast<int>(blockIdx.x);
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const int warp = static_cast<int>(threadIdx.x) / kWarp;
    const bool first_round = round.first == 0;
    const Progress progress = first_round ? Progress{0, 0} : round.progress[segment];
    if (progress.done != 0) {
        return;
    }
    const int candidates = candidates_of(round, segment);
    const int count = min(kWindow, candidates - round.first);
    boxes = boxes_of(boxes, problem, segment);
    const int first_index = segment % problem.classes * problem.boxes;
    const Key* sorted = round.sorted + static_cast<int64_t>(segment) * problem.boxes + round.first;
    const Bits* overlap = round.overlap + static_cast<int64_t>(segment) * kWindow * kWindowTiles;
    Bits* lost = round.lost + static_cast<int64_t>(segment) * kWindowTiles;
    Key* kept_keys = round.kept_keys + static_cast<int64_t>(segment) * problem.limit;
    float4* kept_boxes = round.kept_boxes + static_cast<int64_t>(segment) * problem.limit;

    const Bits lost_before = first_round ? 0 : lost[lane];  // of the lane's tile
    Bits alive = 0;                                         // of the lane's tile
    Bits words[kScanRows];
    const auto load_words = [&](int tile) {
#pragma unroll
        for (int i = 0; i < kScanRows; ++i) {
            const int row = tile * kTileSide + warp * kScanRows + i;
            words[i] = row < count && lane <= tile
                           ? overlap[static_cast<int64_t>(row) * kWindowTiles + lane]
                           : 0;
        }
    };
    load_words(0);
    int kept = progress.kept;
    const unsigned below = (1u << lane) - 1u;
    for (int tile = 0; tile * kTileSide < count && kept < problem.limit; ++tile) {
        const int half = tile % 2;
        unsigned own_losers = 0;
#pragma unroll
        for (int i = 0; i < kScanRows; ++i) {
            if (__any_sync(kFullWarp, (words[i] & alive) != 0)) {
                own_losers |= 1u << i;
            }
            if (lane == tile) {
                rivals[half][warp * kScanRows + i] = words[i];
            }
        }
        if (lane == 0) {
            losers[half][warp] = own_losers;
        }
        load_words(tile + 1);
        __syncthreads();

        // Every warp computes the same answer, so none has to wait for another.
        constexpr int kHalfWarps = kScanWarps / 2;
        const unsigned part =
            lane < kScanWarps ? losers[half][lane] << (lane % kHalfWarps * kScanRows) : 0u;
        const Bits before = __shfl_sync(kFullWarp, lost_before, tile);
        const unsigned dead_low =
            any_bits(lane < kHalfWarps ? part : 0u) | static_cast<unsigned>(before);
        const unsigned dead_high =
            any_bits(lane >= kHalfWarps ? part : 0u) | static_cast<unsigned>(before >> kWarp);
        const int left = count - tile * kTileSide;
        const bool low_present = lane < left && (dead_low >> lane & 1u) == 0u;
        const bool high_present = lane + kWarp < left && (dead_high >> lane & 1u) == 0u;
        const unsigned low = survivors_of(
            low_present, static_cast<unsigned>(rivals[half][lane]));
        const Bits high_rivals = rivals[half][lane + kWarp];
        const unsigned high = survivors_of(
            high_present && (static_cast<unsigned>(high_rivals) & low) == 0u,
            static_cast<unsigned>(high_rivals >> kWarp));
        if (lane == tile) {
            alive = static_cast<Bits>(high) << kWarp | low;
        }

        if (warp == tile % kScanWarps) {
            const int before_tile = kept - progress.kept;
            if ((low >> lane & 1u) != 0u) {
                survivors[before_tile + __popc(low & below)] =
                    static_cast<unsigned short>(tile * kTileSide + lane);
            }
            if ((high >> lane & 1u) != 0u) {
                survivors[before_tile + __popc(low) + __popc(high & below)] =
                    static_cast<unsigned short>(tile * kTileSide + kWarp + lane);
            }
        }
        kept = min(problem.limit, kept + __popc(low) + __popc(high));
    }
    __syncthreads();  // survivors are written, and every thread has read `lost`
    for (int i = static_cast<int>(threadIdx.x); i < kept - progress.kept;
         i += kScanWarps * kWarp) {
        const Key key = sorted[survivors[i]];
        const Box box = load_box(boxes, index_of(key) - first_index, problem.offset);
        kept_keys[progress.kept + i] = key;
        kept_boxes[progress.kept + i] = make_float4(box.x1, box.y1, box.x2, box.y2);
    }
    if (threadIdx.x < kWindowTiles) {
        lost[threadIdx.x] = 0;
    }
    if (threadIdx.x == 0) {
        const bool done = kept >= problem.limit || round.first + kWindow >= candidates;
        round.progress[segment] = {kept, done ? 1 : 0};
        round.kept_counts[segment] = kept;
    }
}

}  // namespace padded_nms
}  // namespace trtyard
