// Host-side helpers of the kernels: launches that return their error, and the pieces of a workspace.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "trtyard_kernels.h"

namespace trtyard {

// The alignment of cudaMalloc; a multiple of the 128 bytes of a cache line.
constexpr size_t kWorkspaceAlignment = 256;

constexpr int64_t kMaxInt32 = 2147483647;

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Divides a caller's workspace into aligned pieces. The same code counts the bytes (base null) and returns
// the pieces, so both always agree.
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

// How to start a kernel, apart from its name and arguments.
struct Grid {
    int64_t blocks;
    int threads;
    void* stream;
    size_t shared_bytes = 0;
    // Start while the previous kernel in the stream still runs. This kernel must then call
    // wait_for_prior_kernel. No effect if the GPU or the runtime does not support it.
    bool overlaps_prior = false;

    Grid(int64_t blocks, int threads, void* stream) :
        blocks(blocks), threads(threads), stream(stream) {}
};

// Limits of the current device.
struct Device {
    int multiprocessors = 0;
    int shared_bytes = 0;  // the most for one block, on request
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

    // From CUDA 12.3 on, a launch that overlaps the previous one can be captured in a graph.
    bool overlaps_launches() const { return CUDART_VERSION >= 12030 && major >= 9; }
};

// Shared memory of a block without a request, minus room for a kernel's static part.
constexpr size_t kDefaultSharedBytes = 40 * 1024;

// Launches `kernel` and returns the status of the launch: 0 or a cudaError_t. The arguments are converted
// to the kernel's parameter types. A successful launch does not read or change the thread's last error.
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
        (void)cudaGetLastError();  // it is returned; the caller's next check must not find it again
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
