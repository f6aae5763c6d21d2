// Host side helpers of the kernel cores: launches that return their error, workspace cut in pieces.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "trtyard_kernels.h"

namespace trtyard {

// cudaMalloc's own alignment; also a whole number of 128-byte cache lines.
constexpr size_t kWorkspaceAlignment = 256;

constexpr int64_t kMaxInt32 = 2147483647;

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Hands out aligned pieces of a caller's workspace. Counting (base null) and cutting run through the
// same code, so the two can never disagree.
class Workspace {
public:
    explicit Workspace(void* base) : base_(static_cast<char*>(base)) {}

    template <typename T>
    T* take(int64_t count) {
        char* piece = base_ == nullptr ? nullptr : base_ + used_;
        const size_t bytes = static_cast<size_t>(count) * sizeof(T);
        used_ += (bytes + kWorkspaceAlignment - 1) / kWorkspaceAlignment * kWorkspaceAlignment;
        return reinterpret_cast<T*>(piece);
    }

    size_t used() const { return used_; }

private:
    char* base_;
    size_t used_ = 0;
};

inline int32_t check_workspace(const void* workspace, size_t given, size_t needed) {
    if (needed == 0) {
        return TRTYARD_OK;
    }
    if (workspace == nullptr || given < needed) {
        return TRTYARD_WORKSPACE_TOO_SMALL;
    }
    const bool aligned = reinterpret_cast<uintptr_t>(workspace) % kWorkspaceAlignment == 0;
    return aligned ? TRTYARD_OK : TRTYARD_WORKSPACE_MISALIGNED;
}

template <typename T>
struct Same {
    using type = T;
};

// How a kernel is started, beyond its name and arguments.
struct Grid {
    int64_t blocks;
    int threads;
    void* stream;
    size_t shared_bytes = 0;
    // Start while the kernel before it in the stream still runs; this one must then call
    // wait_for_prior_kernel. Without effect where the GPU or the runtime cannot.
    bool overlaps_prior = false;

    Grid(int64_t blocks, int threads, void* stream) :
        blocks(blocks), threads(threads), stream(stream) {}
};

// What the current device offers.
struct Device {
    int multiprocessors = 0;
    int shared_bytes = 0;  // most that one block can ask for
    int major = 0;         // of the compute capability
    int cache_bytes = 0;   // L2

    int32_t query() {
        int device = 0;
        cudaError_t status = cudaGetDevice(&device);
        const auto get = [&](int* value, cudaDeviceAttr attribute) {
            if (status == cudaSuccess) {
                status = cudaDeviceGetAttribute(value, attribute, device);
            }
        };
        get(&multiprocessors, cudaDevAttrMultiProcessorCount);
        get(&shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin);
        get(&major, cudaDevAttrComputeCapabilityMajor);
        get(&cache_bytes, cudaDevAttrL2CacheSize);
        if (status != cudaSuccess) {
            (void)cudaGetLastError();
        }
        return static_cast<int32_t>(status);
    }

    // Since CUDA 12.3 a launch that overlaps the one before can be captured in a graph.
    bool overlaps_launches() const { return CUDART_VERSION >= 12030 && major >= 9; }
};

// What a block gets without asking, less what a kernel may have of its own.
constexpr size_t kDefaultSharedBytes = 40 * 1024;

// Launch `kernel` and return the launch's own status (0 or a cudaError_t). The arguments are converted
// to the kernel's parameter types; nothing is read from or left in the thread's last-error slot when
// the launch is good.
template <typename... Parameters>
int32_t launch(
    void (*kernel)(Parameters...), const Grid& grid,
    typename Same<Parameters>::type... arguments) {
    void* pointers[] = {static_cast<void*>(&arguments)...};
    const void* function = reinterpret_cast<const void*>(kernel);
    const dim3 blocks(static_cast<unsigned>(grid.blocks));
    const dim3 threads(static_cast<unsigned>(grid.threads));
    const cudaStream_t stream = static_cast<cudaStream_t>(grid.stream);
    cudaError_t status = cudaSuccess;
    if (grid.shared_bytes > kDefaultSharedBytes) {
        status = cudaFuncSetAttribute(
            function, cudaFuncAttributeMaxDynamicSharedMemorySize,
            static_cast<int>(grid.shared_bytes));
    }
    if (status == cudaSuccess) {
#if CUDART_VERSION >= 12030
        cudaLaunchAttribute overlap{};
        overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
        overlap.val.programmaticStreamSerializationAllowed = 1;
        cudaLaunchConfig_t config{};
        config.gridDim = blocks;
        config.blockDim = threads;
        config.dynamicSmemBytes = grid.shared_bytes;
        config.stream = stream;
        config.attrs = &overlap;
        config.numAttrs = grid.overlaps_prior ? 1 : 0;
        status = cudaLaunchKernelExC(&config, function, pointers);
#else
        status = cudaLaunchKernel(
            function, blocks, threads, pointers, grid.shared_bytes, stream);
#endif
    }
    if (status != cudaSuccess) {
        (void)cudaGetLastError();  // reported here: do not let the caller's next check find it again
    }
    return static_cast<int32_t>(status);
}

template <typename... Parameters>
int32_t launch(
    void (*kernel)(Parameters...), int64_t blocks, int threads, void* stream,
    typename Same<Parameters>::type... arguments) {
    return launch<Parameters...>(kernel, Grid(blocks, threads, stream), arguments...);
}

}  // namespace trtyard
