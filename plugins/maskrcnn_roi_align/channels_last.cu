// RoIAlign of features with their channels last. A lane computes some neighbouring channels, a warp rows of
// bins of a roi. So a warp reads each cell with one wide load, and all lanes use the same weights. A block
// computes one roi and the channels of a warp.
#include <type_traits>

#include "maskrcnn_roi_align/call.cuh"

namespace trtyard {
namespace maskrcnn_roi_align {

constexpr int kMostWarps = 8;
constexpr int kBlocks = 3;  // per multiprocessor: leaves 80 registers for a thread

constexpr int kWeights = kMaxTaps + 1;  // of a bin, rounded up

// A roi's weights in shared memory, x axis first.
struct Bins {
    float4 heads[2][kBinTable];  // as in Tables; kNoRow after the last bin
    alignas(16) float weights[2][kMaxBins][kWeights];  // for kLoopForm
};

struct LastWork {
    Order features, pooled;
    bool wide;          // pooled with channels last: a lane stores its channels at once
    unsigned outputs_inverse;
    int stage_pitch;    // elements of a channel in shared memory, for pooled with channels first
};

// kVector neighbouring channels.
template <int kVector, typename T>
struct alignas(kVector * sizeof(T)) Channels {
    T value[kVector];
};

template <int kVector, typename T>
__device__ inline void add(float (&sums)[kVector], float weight, const Channels<kVector, T>& cell) {
#pragma unroll
    for (int k = 0; k < kVector; ++k) {
        sums[k] += weight * to_float(cell.value[k]);
    }
}

// The state of a lane.
template <int kVector, typename T>
struct LastLane {
    using Cell = Channels<kVector, T>;
    const T* source;  // the lane's channels of the roi's image
    int pitch, height, width, output_width;

    __device__ const T* row(int index) const {
        return source + static_cast<int64_t>(min(index, height - 1)) * width * pitch;
    }
    __device__ Cell cell(const T* row, int column) const {
        return *reinterpret_cast<const Cell*>(
            row + static_cast<int64_t>(min(column, width - 1)) * pitch);
    }
};

// kWindowForm, one row of bins. Each column of up to three cells is summed once, and a bin is a sum over
// three columns. Calls emit(bin, sums) for each bin.
template <int kVector, typename T, typename Emit>
__device__ inline void pool_row_window(
    const LastLane<kVector, T>& lane, const Bins& bins, int row, const Emit& emit) {
    const float4 down = bins.heads[1][row];
    const int top = __float_as_int(down.x);
    const bool second = down.z != 0.0f;
    const bool third = down.w != 0.0f;
    float4 head = bins.heads[0][0];
    int left = __float_as_int(head.x);  // first column of the bins that are written next
    int bin = 0;
    // Address of the next column. After the last column it is read again, with weights of zero.
    const T* cells = lane.row(top) + static_cast<int64_t>(left) * lane.pitch;
    int more = lane.width - 1 - left;
    const int64_t to_second = lane.row(top + 1) - lane.row(top);
    const int64_t to_third = lane.row(top + 2) - lane.row(top);

    struct Column {
        float sums[kVector];
    };
    using Cell = Channels<kVector, T>;
    const auto read = [&] {
        Cell own[kWindowTaps] = {};
        own[0] = *reinterpret_cast<const Cell*>(cells);
        if (second) {
            own[1] = *reinterpret_cast<const Cell*>(cells + to_second);
        }
        if (third) {
            own[2] = *reinterpret_cast<const Cell*>(cells + to_third);
        }
        cells += more > 0 ? lane.pitch : 0;
        --more;
        Column column;
#pragma unroll
        for (int k = 0; k < kVector; ++k) {
            column.sums[k] = down.y * to_float(own[0].value[k]);
        }
        if (second) {
            add(column.sums, down.z, own[1]);
        }
        if (third) {
            add(column.sums, down.w, own[2]);
        }
        return column;
    };
    // Writes the bins of these three columns; false after the last bin.
    const auto write = [&](const Column& a, const Column& b, const Column& c) {
        while (__float_as_int(head.x) == left) {
            float sums[kVector];
#pragma unroll
            for (int k = 0; k < kVector; ++k) {
                sums[k] = head.y * a.sums[k] + head.z * b.sums[k] + head.w * c.sums[k];
            }
            head = bins.heads[0][bin + 1];
            emit(bin, sums);
            ++bin;
        }
        ++left;
        return bin < lane.output_width;
    };

    Column a = read();
    Column b = read();
    Column c = read();
    while (write(a, b, c)) {
        a = read();
        if (!write(b, c, a)) {
            break;
        }
        b = read();
        if (!write(c, a, b)) {
            break;
        }
        c = read();
    }
}

// Bins of up to kFewTaps cells on both axes: all loads of two rows of a bin are independent.
template <int kVector, typename T, typename Emit>
__device__ inline void pool_row_taps(
    const LastLane<kVector, T>& lane, const Bins& bins, int row, const Emit& emit) {
    constexpr int kRows = 2;  // at a time
    using Cell = Channels<kVector, T>;
    const float* down = bins.weights[1][row];
    const int top = __float_as_int(bins.heads[1][row].x);
    for (int bin = 0; bin < lane.output_width; ++bin) {
        const float4 head = *reinterpret_cast<const float4*>(bins.weights[0][bin]);
        const float across[kFewTaps] = {head.x, head.y, head.z, head.w};
        const int left = __float_as_int(bins.heads[0][bin].x);
        float sums[kVector] = {};
#pragma unroll
        for (int first = 0; first < kFewTaps; first += kRows) {
            if (down[first] == 0.0f && down[first + 1] == 0.0f) {
                continue;
            }
            Cell cells[kRows][kFewTaps];
#pragma unroll
            for (int i = 0; i < kRows; ++i) {
                const T* cells_of_row = lane.row(top + first + i);
#pragma unroll
                for (int k = 0; k < kFewTaps; ++k) {
                    cells[i][k] = lane.cell(cells_of_row, left + k);
                }
            }
#pragma unroll
            for (int i = 0; i < kRows; ++i) {
                float of_row[kVector] = {};
#pragma unroll
                for (int k = 0; k < kFewTaps; ++k) {
                    add(of_row, across[k], cells[i][k]);
                }
#pragma unroll
                for (int j = 0; j < kVector; ++j) {
                    sums[j] += down[first + i] * of_row[j];
                }
            }
        }
        emit(bin, sums);
    }
}

// kLoopForm: each bin reads its own cells.
template <int kVector, typename T, typename Emit>
__device__ inline void pool_row_loop(
    const LastLane<kVector, T>& lane, const Bins& bins, const Header& header, int row,
    const Emit& emit) {
    for (int bin = 0; bin < lane.output_width; ++bin) {
        const float* across = bins.weights[0][bin];
        const int left = __float_as_int(bins.heads[0][bin].x);
        float sums[kVector] = {};
        for (int i = 0; i < header.rows; ++i) {
            const float down = bins.weights[1][row][i];
            if (down == 0.0f) {
                continue;
            }
            const T* cells = lane.row(__float_as_int(bins.heads[1][row].x) + i);
#pragma unroll 4
            for (int k = 0; k < header.columns; ++k) {
                add(sums, down * across[k], lane.cell(cells, left + k));
            }
        }
        emit(bin, sums);
    }
}

// kSampleForm: sample by sample, as the op is defined.
template <int kVector, typename T, typename Emit>
__device__ __noinline__ void pool_row_samples(
    const LastLane<kVector, T> lane, const float* corners, int row, const Shape shape,
    const Sampling sampling, const Emit emit) {
    const Axis x = make_roi_axis(corners, false, shape, sampling);
    const Axis y = make_roi_axis(corners, true, shape, sampling);
    const Range rows = inside(y, row, shape.height);
    const float samples = fmaxf(1.0f, static_cast<float>(x.samples) * static_cast<float>(y.samples));
    for (int bin = 0; bin < shape.output_width; ++bin) {
        const Range columns = inside(x, bin, shape.width);
        float sums[kVector] = {};
        for (int i = rows.first; i < rows.end; ++i) {
            const Tap v = make_tap(sample(y, row, i), shape.height);
            for (int k = columns.first; k < columns.end; ++k) {
                const Tap h = make_tap(sample(x, bin, k), shape.width);
                add(sums, v.weight_low * h.weight_low, lane.cell(lane.row(v.low), h.low));
                add(sums, v.weight_low * h.weight_high, lane.cell(lane.row(v.low), h.high));
                add(sums, v.weight_high * h.weight_low, lane.cell(lane.row(v.high), h.low));
                add(sums, v.weight_high * h.weight_high, lane.cell(lane.row(v.high), h.high));
            }
        }
#pragma unroll
        for (int k = 0; k < kVector; ++k) {
            sums[k] /= samples;
        }
        emit(bin, sums);
    }
}

// Where a lane writes its bins: device memory, or shared memory for channels first.
template <int kVector, typename T>
struct Emitter {
    T* target;  // for the lane's first channel and the row's first bin
    int step;   // elements from a bin to the next
    int apart;  // elements from a channel to the next; 0: one store for all channels
    int real, written;  // channels of the lane: without padding, and with it

    __device__ void operator()(int column, const float (&sums)[kVector]) const {
        T* at = target + column * step;
        if (apart == 0) {
            Channels<kVector, T> cell;
#pragma unroll
            for (int k = 0; k < kVector; ++k) {
                cell.value[k] = from_float<T>(k < real ? sums[k] : 0.0f);
            }
            *reinterpret_cast<Channels<kVector, T>*>(at) = cell;
            return;
        }
#pragma unroll
        for (int k = 0; k < kVector; ++k) {
            if (k < written) {
                at[k * apart] = from_float<T>(k < real ? sums[k] : 0.0f);
            }
        }
    }
};

// Copies the block's channels to pooled with channels first. Channel k of lane l is in row k * 32 + l.
template <int kVector, typename T>
__device__ void store_channels_first(
    T* target, const T* stage, int count, int outputs, const LastWork& work) {
    constexpr int kWide = sizeof(uint4) / sizeof(T);
    const auto staged = [&](int channel) {
        return stage + (channel % kVector * kWarp + channel / kVector) * work.stage_pitch;
    };
    const bool wide = reinterpret_cast<uintptr_t>(target) % sizeof(uint4) == 0 && outputs >= kWide &&
                      count * outputs % kWide == 0;
    const int step = wide ? kWide : 1;
    for (int i = static_cast<int>(threadIdx.x) * step; i < count * outputs;
         i += static_cast<int>(blockDim.x) * step) {
        int channel = divide(i, work.outputs_inverse);
        int bin = i - channel * outputs;
        if (!wide) {
            target[i] = staged(channel)[bin];
            continue;
        }
        Channels<kWide, T> values;
        const T* from = staged(channel) + bin;
#pragma unroll
        for (int k = 0; k < kWide; ++k) {
            values.value[k] = *from++;
            if (++bin == outputs && k + 1 < kWide) {
                bin = 0;
                from = staged(++channel);
            }
        }
        *reinterpret_cast<Channels<kWide, T>*>(target + i) = values;
    }
}

template <int kVector, typename T, typename Maps>
__global__ void __launch_bounds__(kMostWarps * kWarp, kBlocks) pool_channels_last(
    Maps maps, const float* rois, T* pooled, Tables tables, Shape shape, Sampling sampling,
    LastWork work) {
    extern __shared__ uint4 shared[];
    __shared__ Bins bins;
    const int outputs = shape.output_height * shape.output_width;
    const int thread = static_cast<int>(threadIdx.x);
    const int threads = static_cast<int>(blockDim.x);
    const int warp = thread / kWarp;
    const int lane = thread % kWarp;
    // All rois of some channels, then of the next channels, so that the cells they read fit into the L2.
    const int64_t roi = static_cast<int>(blockIdx.x) % shape.rois;
    const int first_channel = static_cast<int>(blockIdx.x) / shape.rois * kVector * kWarp;
    const int channel = first_channel + lane * kVector;

    wait_for_prior_kernel();  // the tables
    const Header header = tables.headers[roi];
    const bool padded = header.image == kPadded;
    if (!padded) {
        const float4* heads = tables.heads + roi * kWarp;
        for (int i = thread; i < kWarp; i += threads) {
            bins.heads[i / kMaxBins][i % kMaxBins] = heads[i];
        }
        if (thread < 2) {
            bins.heads[thread][kMaxBins] = make_float4(__int_as_float(kNoRow), 0.0f, 0.0f, 0.0f);
        }
        if (header.form == kLoopForm) {
            const float4* tails = tables.tails + roi * 2 * kWarp;
            for (int i = thread; i < 2 * kWarp; i += threads) {
                const float4 tail = tails[i];
                float* weights = bins.weights[i / kWarp][i % kMaxBins] + kWindowTaps +
                                 i % kWarp / kMaxBins * 4;
                weights[0] = tail.x;
                weights[1] = tail.y;
                weights[2] = tail.z;
                weights[3] = tail.w;
            }
            for (int i = thread; i < kWarp; i += threads) {
                const float4 head = heads[i];
                float* weights = bins.weights[i / kMaxBins][i % kMaxBins];
                weights[0] = head.y;
                weights[1] = head.z;
                weights[2] = head.w;
            }
        }
        __syncthreads();
    }
    if (work.pooled.channels_last && channel >= work.pooled.pitch) {
        return;
    }

    Emitter<kVector, T> emit;
    T* first_bin;
    emit.real = shape.channels - channel;
    if (work.pooled.channels_last) {
        first_bin = pooled + roi * work.pooled.pitch * outputs + channel;
        emit.written = work.pooled.pitch - channel;
        emit.step = work.pooled.pitch;
        emit.apart = work.wide && emit.written >= kVector ? 0 : 1;
    } else {
        first_bin = reinterpret_cast<T*>(shared) + lane * work.stage_pitch;
        emit.written = kVector;
        emit.step = 1;
        emit.apart = kWarp * work.stage_pitch;
    }

    const T* features =
        static_cast<const T*>(maps.select(padded ? 0 : header.level, shape, sampling));
    LastLane<kVector, T> own;
    // A lane after the last channel reads the last channels again.
    own.source = features +
                 static_cast<int64_t>(padded ? 0 : header.image) * shape.height * shape.width *
                     work.features.pitch +
                 min(channel, work.features.pitch - kVector);
    own.pitch = work.features.pitch;
    own.height = shape.height;
    own.width = shape.width;
    own.output_width = shape.output_width;
    for (int row = warp; row < shape.output_height; row += threads / kWarp) {
        emit.target = first_bin + static_cast<int64_t>(row) * shape.output_width * emit.step;
        if (padded) {
            const float zeros[kVector] = {};
            for (int bin = 0; bin < shape.output_width; ++bin) {
                emit(bin, zeros);
            }
        } else if (header.form == kWindowForm) {
            pool_row_window(own, bins, row, emit);
        } else if (header.form == kLoopForm && header.columns <= kFewTaps &&
                   header.rows <= kFewTaps) {
            pool_row_taps(own, bins, row, emit);
        } else if (header.form == kLoopForm) {
            pool_row_loop(own, bins, header, row, emit);
        } else {
            pool_row_samples(own, rois + roi * 4, row, shape, sampling, emit);
        }
    }
    if (!work.pooled.channels_last) {
        __syncthreads();
        const int count = min(kVector * kWarp, shape.channels - first_channel);
        store_channels_first<kVector, T>(
            pooled + (roi * shape.channels + first_channel) * outputs,
            reinterpret_cast<const T*>(shared), count, outputs, work);
    }
}

// kDoesNotFit if a lane's channels are not one load, or the stage is too large.
template <int kVector, typename T>
int32_t run_vector(const Call<T>& call) {
    const Shape& shape = call.shape;
    const auto is_wide = [](const void* data, const Order& order) {
        return reinterpret_cast<uintptr_t>(data) % (kVector * sizeof(T)) == 0 &&
               order.pitch % kVector == 0;
    };
    const bool all_wide = call.for_all_maps([&](const void* features, int, int) {
        return is_wide(features, call.features_order);
    });
    if (!all_wide) {
        return kDoesNotFit;
    }
    const int outputs = shape.output_height * shape.output_width;
    LastWork work{};
    work.features = call.features_order;
    work.pooled = call.pooled_order;
    work.wide = is_wide(call.pooled, call.pooled_order);
    const int64_t chunks = ceil_div(call.pooled_order.pitch, kVector * kWarp);
    work.outputs_inverse = inverse_of(outputs);
    work.stage_pitch = outputs | 1;  // neighbouring lanes use different banks
    const int64_t rows = ceil_div(shape.output_height, kMostWarps);  // for a warp, as evenly as possible
    const int warps = static_cast<int>(ceil_div(shape.output_height, rows));
    Grid grid(shape.rois * chunks, warps * kWarp, call.stream);
    grid.shared_bytes = call.pooled_order.channels_last
                            ? 0
                            : sizeof(T) * kVector * kWarp * work.stage_pitch;
    const size_t own = sizeof(Bins) + 1024;
    if (static_cast<int64_t>(grid.shared_bytes + own) > call.device.shared_bytes) {
        return kDoesNotFit;
    }
    grid.overlaps_prior = call.device.overlaps_launches();
    const int32_t status = call.make_tables();
    return status != TRTYARD_OK ? status : call.with_maps([&](const auto& maps) {
        using Maps = typename std::decay<decltype(maps)>::type;
        return launch(
            pool_channels_last<kVector, T, Maps>, grid, maps, call.rois, call.pooled, call.tables,
            shape, call.sampling, work);
    });
}

template <typename T>
int32_t run_channels_last(const Call<T>& call) {
    const int32_t status = run_vector<static_cast<int>(sizeof(uint4) / sizeof(T)), T>(call);
    return status == kDoesNotFit ? run_vector<1, T>(call) : status;
}

#define TRTYARD_INSTANTIATE(T) template int32_t run_channels_last<T>(const Call<T>&);
TRTYARD_FOR_EACH_TYPE(TRTYARD_INSTANTIATE)

}  // namespace maskrcnn_roi_align
}  // namespace trtyard
