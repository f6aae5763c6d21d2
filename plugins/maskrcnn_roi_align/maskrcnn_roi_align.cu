// MaskRcnnROIAlign: the mean of bilinear samples in each bin of each roi. See README.md.
//
// Three ways. Where a whole map of some channels fits in a block's shared memory: weights first, then
// every roi from there, features of 16 bits on the matrix units (fragments.cuh, matrix.cuh), float32 on
// the ordinary ones (tables.cuh, resident.cuh). Elsewhere: one thread an output element, here.
// Coordinates and sums are float32 whatever the features are.
#include "common/element.cuh"
#include "common/launch.cuh"
#include "maskrcnn_roi_align/matrix.cuh"
#include "maskrcnn_roi_align/resident.cuh"
#include "maskrcnn_roi_align/samples.cuh"

// Named, not anonymous: nvcc would name an anonymous one after the folder it is run in, and the same
// sources would give other bytes elsewhere.
namespace trtyard {
namespace maskrcnn_roi_align {

constexpr int kThreads = 256;

// Enough blocks to fill any device of today many times over; threads loop over the rest.
constexpr int64_t kMaxBlocks = 1 << 20;

template <typename T>
__global__ void __launch_bounds__(kThreads) roi_align(
    const T* features, const float* rois, const int* batch_indices, T* pooled, Shape shape,
    Sampling sampling) {
    const int64_t bins = static_cast<int64_t>(shape.output_height) * shape.output_width;
    const int64_t plane = static_cast<int64_t>(shape.height) * shape.width;
    const int64_t items = shape.rois * shape.channels * bins;
    const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
    for (int64_t item = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; item < items;
         item += stride) {
        const int64_t map = item / bins;
        const int bin = static_cast<int>(item % bins);
        const int roi = static_cast<int>(map / shape.channels);
        const int channel = static_cast<int>(map % shape.channels);
        const int image = batch_indices[roi];
        if (image < 0 || image >= shape.batch) {
            pooled[item] = from_float<T>(0.0f);
            continue;
        }
        const float* corners = rois + static_cast<int64_t>(roi) * 4;
        const Axis x = make_roi_axis(corners, false, shape, sampling);
        const Axis y = make_roi_axis(corners, true, shape, sampling);
        const int column = bin % shape.output_width;
        const int row = bin / shape.output_width;
        const Range columns = inside(x, column, shape.width);
        const Range rows = inside(y, row, shape.height);

        const T* source =
            features + (static_cast<int64_t>(image) * shape.channels + channel) * plane;
        float sum = 0.0f;
        for (int i = rows.first; i < rows.end; ++i) {
            const Tap v = make_tap(sample(y, row, i), shape.height);
            const T* upper = source + static_cast<int64_t>(v.low) * shape.width;
            const T* lower = source + static_cast<int64_t>(v.high) * shape.width;
            for (int j = columns.first; j < columns.end; ++j) {
                const Tap h = make_tap(sample(x, column, j), shape.width);
                const float above =
                    h.weight_low * to_float(upper[h.low]) + h.weight_high * to_float(upper[h.high]);
                const float below =
                    h.weight_low * to_float(lower[h.low]) + h.weight_high * to_float(lower[h.high]);
                sum += v.weight_low * above + v.weight_high * below;
            }
        }
        // Samples outside the map count in the mean, with the value zero.
        const float samples =
            fmaxf(1.0f, static_cast<float>(x.samples) * static_cast<float>(y.samples));
        pooled[item] = from_float<T>(sum / samples);
    }
}

int32_t check_shape(const Shape& shape) {
    const bool good = shape.batch >= 0 && shape.channels >= 0 && shape.height >= 0 &&
                      shape.width >= 0 && shape.rois >= 0 && shape.output_height >= 0 &&
                      shape.output_width >= 0;
    if (!good) {
        return TRTYARD_BAD_ARGUMENT;
    }
    const bool fits =
        static_cast<int64_t>(shape.output_height) * shape.output_width <= kMaxInt32 &&
        static_cast<int64_t>(shape.height) * shape.width <= kMaxInt32 &&
        static_cast<int64_t>(shape.rois) * shape.channels <= kMaxInt32 &&
        static_cast<int64_t>(shape.batch) * shape.channels <= kMaxInt32;
    return fits ? TRTYARD_OK : TRTYARD_TOO_LARGE;
}

// Fewer rois an image than this are not worth reading whole maps for.
constexpr int64_t kFewRois = 4;

constexpr int kFewestWarps = 4;  // with fewer the reads' latency shows

// Sizes for which tables exist; the workspace must hold them, whatever the device turns out to be.
bool has_tables(const Shape& shape) {
    return !shape.empty_output() && shape.batch > 0 && shape.height > 0 && shape.width > 0 &&
           shape.output_height <= kMaxBins && shape.output_width <= kMaxBins &&
           shape.rois >= kFewRois * shape.batch;
}

struct Plan {
    Tables tables{};
    FragmentTables fragments{};  // in the same memory: a call makes one or the other
    size_t bytes = 0;

    Plan(const Shape& shape, void* workspace) {
        if (!has_tables(shape)) {
            return;
        }
        Workspace pieces(workspace);
        const int64_t rois = shape.rois;
        tables.headers = pieces.take<Header>(rois);
        tables.heads = pieces.take<float4>(rois * kWarp);
        tables.tails = pieces.take<float4>(rois * 2 * kWarp);
        bytes = pieces.used();

        Workspace others(workspace);
        fragments.row_tiles = static_cast<int>(ceil_div(shape.height, kTile));
        fragments.column_tiles = static_cast<int>(ceil_div(shape.width, kTile));
        const bool few = shape.output_height <= kFewBins && shape.output_width <= kFewBins;
        fragments.windows = others.take<Window>(rois);
        fragments.fragments = others.take<uint4>(
            rois * (fragments.row_tiles + fragments.column_tiles) * (few ? 1 : 2) * kWarp);
        bytes = others.used() > bytes ? others.used() : bytes;
    }
};

template <typename T>
struct Call {
    const T* features;
    const float* rois;
    const int32_t* batch_indices;
    T* pooled;
    Shape shape;
    Sampling sampling;
    Plan plan;
    Device device;
    void* stream;
};

constexpr int32_t kDoesNotFit = 1 << 30;  // no status: take the next layout

// Tables, then pooling with this layout; kDoesNotFit where the map or the staging do not fit.
template <typename L, int kOutputs, typename T>
int32_t run_resident(const Call<T>& call) {
    const Shape& shape = call.shape;
    const int outputs = shape.output_height * shape.output_width;
    const bool other_outputs = kOutputs > 0 && outputs != kOutputs;
    if (other_outputs || shape.output_width > L::kLanes ||
        static_cast<int64_t>(shape.height) * shape.width > L::kMaxPlane) {
        return kDoesNotFit;
    }
    const int64_t staged = static_cast<int64_t>(staged_bytes(L::kChannels, outputs, sizeof(T)));
    const int64_t fixed = static_cast<int64_t>(sizeof(float)) * L::kMapFloats;
    const int64_t task = staged + static_cast<int64_t>(kBinTable * sizeof(float4));
    const int64_t own = 256;  // static shared memory, rounded up
    int64_t warps = (call.device.shared_bytes - own - fixed) / task;
    if (warps < kFewestWarps) {
        return kDoesNotFit;
    }
    warps = warps < kMaxWarps ? warps : kMaxWarps;
    const int64_t groups = ceil_div(shape.channels, L::kChannels);
    const int64_t blocks = groups * shape.batch;
    int64_t splits = call.device.multiprocessors / blocks;
    const int64_t most_splits = ceil_div(shape.rois, warps);
    splits = splits < most_splits ? splits : most_splits;
    splits = splits > 1 ? splits : 1;
    // One roi of the block's own image a draw, on average.
    const int draw = shape.batch < kWarp ? shape.batch : kWarp;
    const int64_t vectors = static_cast<int64_t>(shape.height) * shape.width * sizeof(T) /
                            sizeof(uint4);
    const int64_t inverse = vectors > 1 ? ceil_div(int64_t{1} << 32, vectors) : 0;

    const int rois_per_block = kTableThreads / kWarp;
    int32_t status = launch(
        make_tables, ceil_div(shape.rois, rois_per_block), kTableThreads, call.stream, call.rois,
        call.batch_indices, call.plan.tables, shape, call.sampling);
    if (status != TRTYARD_OK) {
        return status;
    }
    Grid grid(blocks * splits, static_cast<int>(warps) * kWarp, call.stream);
    grid.shared_bytes = static_cast<size_t>(fixed + task * warps);
    grid.overlaps_prior = call.device.overlaps_launches();
    return launch(
        pool_resident<L, kOutputs, T>, grid, call.features, call.rois, call.pooled,
        call.plan.tables, shape, call.sampling,
        Work{static_cast<int>(groups), static_cast<int>(splits), draw,
             static_cast<unsigned>(inverse)});
}

// What a block reads: its maps, which nothing hides and which count more for that (4 was measured), and
// the weights of its rois.
int64_t matrix_cost(const Shape& shape, int64_t channels, int64_t rois, bool few) {
    constexpr int64_t kUsualTiles = 3;  // of a roi, both axes
    return 4 * 2 * channels * shape.height * shape.width + rois * kUsualTiles * (few ? 512 : 1024);
}

// How the matrix units share out the work; no channels where the maps do not fit.
template <bool kFew, typename T>
MatrixWork share_out(const Shape& shape, const Device& device) {
    MatrixWork work{};
    // Rows begin at 16 bytes and eight of them in other banks.
    work.stride = static_cast<int>(ceil_div(shape.width, kColumnStep) | 1) * kColumnStep;
    const int64_t pairs = shape.width / 2;
    work.inverse = pairs > 1 ? static_cast<unsigned>(ceil_div(int64_t{1} << 32, pairs)) : 0;
    const int64_t map_bytes = static_cast<int64_t>(shape.height) * work.stride * sizeof(T);
    const int64_t channel_bytes =
        static_cast<int64_t>(shape.output_height) * shape.output_width * sizeof(T);
    constexpr int64_t kBatch = Batch<kFew>::kChannels;
    constexpr int64_t kPlaces = 2 * MatrixWarps<kFew>::kWarps;
    const int64_t own = 256;  // static shared memory, rounded up
    const auto place_bytes = [&](int64_t channels) {
        const int64_t left = device.shared_bytes - own - channels * map_bytes;
        return left > 0 ? left / kPlaces / kBulkAlignment * kBulkAlignment : 0;
    };
    int64_t least = 0;
    // With many bins 16 channels leave room to stage more of them at once.
    for (int64_t channels = kFew ? 32 : 16; channels >= 4; channels /= 2) {
        if (place_bytes(channels) < kBatch * channel_bytes) {
            continue;
        }
        const int64_t groups = ceil_div(shape.channels, channels);
        const int64_t blocks = groups * shape.batch;
        const int64_t splits = device.multiprocessors / blocks;
        const int64_t rois = ceil_div(shape.rois, splits > 1 ? splits : 1);
        const int64_t cost =
            matrix_cost(shape, channels, rois, kFew) * ceil_div(blocks, device.multiprocessors);
        if (work.channels == 0 || cost < least) {
            least = cost;
            work.channels = static_cast<int>(channels);
            work.groups = static_cast<int>(groups);
            work.splits = static_cast<int>(splits > 1 ? splits : 1);
        }
    }
    if (work.channels == 0) {
        return work;
    }
    work.splits = work.splits < shape.rois ? work.splits : shape.rois;
    work.draw = shape.batch < kWarp ? shape.batch : kWarp;
    constexpr int64_t kTasks = 5 * MatrixWarps<kFew>::kWarps;  // so that the last ones are short
    const int64_t rois = ceil_div(shape.rois, int64_t{work.splits} * shape.batch);
    while (rois << work.chunk_bits < kTasks && work.channels >> work.chunk_bits > 8) {
        ++work.chunk_bits;
    }
    const int64_t task = work.channels >> work.chunk_bits;
    const int64_t most = place_bytes(work.channels) / channel_bytes / kBatch * kBatch;
    const int64_t staged = ceil_div(ceil_div(task, ceil_div(task, most)), kBatch) * kBatch;
    work.staged = static_cast<int>(staged);
    work.place = static_cast<int>(
        ceil_div(staged * channel_bytes, kBulkAlignment) * kBulkAlignment / sizeof(T));
    // Bulk copies relieve the load-store unit, which limits few bins; plain stores load the L2 less.
    work.bulk = kFew && staged * channel_bytes % kBulkAlignment == 0 &&
                task * channel_bytes % kBulkAlignment == 0 &&
                shape.channels * channel_bytes % kBulkAlignment == 0;
    return work;
}

// For features of 16 bits. kDoesNotFit where the device or the sizes do not.
template <bool kFew, int kOutputs, typename T>
int32_t run_matrix(const Call<T>& call) {
    const Shape& shape = call.shape;
    const bool other_outputs =
        kOutputs > 0 && shape.output_height * shape.output_width != kOutputs;
    const bool too_many = kFew && (shape.output_height > kFewBins || shape.output_width > kFewBins);
    if (other_outputs || too_many || call.device.major < 8) {
        return kDoesNotFit;
    }
    const MatrixWork work = share_out<kFew, T>(shape, call.device);
    if (work.channels == 0) {
        return kDoesNotFit;
    }
    const int32_t status = launch(
        make_fragments<kFew, T>, ceil_div(shape.rois, kFragmentThreads / kWarp), kFragmentThreads,
        call.stream, call.rois, call.batch_indices, call.plan.fragments, shape, call.sampling);
    if (status != TRTYARD_OK) {
        return status;
    }
    constexpr int kWarps = MatrixWarps<kFew>::kWarps;
    Grid grid(int64_t{work.groups} * shape.batch * work.splits, kWarps * kWarp, call.stream);
    const size_t maps = static_cast<size_t>(work.channels) * shape.height * work.stride;
    grid.shared_bytes = (maps + size_t{2} * kWarps * work.place) * sizeof(T);
    grid.overlaps_prior = call.device.overlaps_launches();
    return launch(
        pool_matrix<kFew, kOutputs, T>, grid, call.features, call.pooled, call.plan.fragments, shape,
        work);
}

template <typename T>
int32_t run_direct(const Call<T>& call) {
    const Shape& shape = call.shape;
    const int64_t items = static_cast<int64_t>(shape.rois) * shape.channels *
                          shape.output_height * shape.output_width;
    const int64_t wanted = ceil_div(items, kThreads);
    return launch(
        roi_align<T>, wanted < kMaxBlocks ? wanted : kMaxBlocks, kThreads, call.stream,
        call.features, call.rois, call.batch_indices, call.pooled, shape, call.sampling);
}

template <typename Attempt>
void run_on_matrix_units(const Call<float>&, const Attempt&) {}

template <typename T, typename Attempt>
void run_on_matrix_units(const Call<T>&, const Attempt& attempt) {
    attempt(run_matrix<true, 49, T>);
    attempt(run_matrix<true, 0, T>);
    attempt(run_matrix<false, 196, T>);
    attempt(run_matrix<false, 0, T>);
}

// The layouts, best first: as many channels a block as fit, so that a roi's table serves them all.
template <typename T>
int32_t run(const Call<T>& call) {
    int32_t status = kDoesNotFit;
    const auto attempt = [&](int32_t (*form)(const Call<T>&)) {
        if (status == kDoesNotFit) {
            status = form(call);
        }
    };
    if (call.plan.bytes > 0) {
        run_on_matrix_units(call, attempt);
        attempt(run_resident<Layout<8, 4, 2562>, 49, T>);
        attempt(run_resident<Layout<16, 4, 2564>, 196, T>);
        attempt(run_resident<Layout<8, 4, 2562>, 0, T>);
        attempt(run_resident<Layout<16, 4, 2564>, 0, T>);
        attempt(run_resident<Layout<16, 2, 5128>, 0, T>);
        attempt(run_resident<Layout<16, 1, 10256>, 0, T>);
    }
    return status == kDoesNotFit ? run_direct(call) : status;
}

}  // namespace maskrcnn_roi_align
}  // namespace trtyard

extern "C" size_t trtyard_roi_align_workspace(
    int32_t batch, int32_t channels, int32_t height, int32_t width, int32_t rois,
    int32_t output_height, int32_t output_width) {
    using namespace trtyard;
    using namespace trtyard::maskrcnn_roi_align;
    const Shape shape{batch, channels, height, width, rois, output_height, output_width};
    return check_shape(shape) == TRTYARD_OK ? Plan(shape, nullptr).bytes : 0;
}

extern "C" int32_t trtyard_roi_align(
    const void* features, const float* rois, const int32_t* batch_indices, void* pooled,
    int32_t batch, int32_t channels, int32_t height, int32_t width, int32_t rois_count,
    int32_t output_height, int32_t output_width, float spatial_scale, int32_t sampling_ratio,
    int32_t aligned, int32_t dtype, void* workspace, size_t workspace_bytes, void* stream) {
    using namespace trtyard;
    using namespace trtyard::maskrcnn_roi_align;
    const Shape shape{batch, channels, height, width, rois_count, output_height, output_width};
    int32_t status = check_shape(shape);
    if (status != TRTYARD_OK) {
        return status;
    }
    if (!is_element_type(dtype)) {
        return TRTYARD_UNSUPPORTED_DTYPE;
    }
    const bool finite_scale = spatial_scale - spatial_scale == 0.0f;
    if (!finite_scale || sampling_ratio < 0 || (aligned != 0 && aligned != 1)) {
        return TRTYARD_BAD_ARGUMENT;
    }
    if (shape.empty_output()) {
        return TRTYARD_OK;
    }
    const bool reads = batch > 0 && height > 0 && width > 0;
    if (rois == nullptr || batch_indices == nullptr || pooled == nullptr ||
        (reads && features == nullptr)) {
        return TRTYARD_BAD_ARGUMENT;
    }
    const Plan plan(shape, workspace);
    status = check_workspace(workspace, workspace_bytes, plan.bytes);
    if (status != TRTYARD_OK) {
        return status;
    }
    Device device;
    status = device.query();
    if (status != TRTYARD_OK) {
        return status;
    }
    const Sampling sampling{spatial_scale, sampling_ratio, aligned == 1};
    return with_element_type(dtype, [&](auto element) {
        using T = decltype(element);
        return run(Call<T>{
            static_cast<const T*>(features), rois, batch_indices, static_cast<T*>(pooled), shape,
            sampling, plan, device, stream});
    });
}
