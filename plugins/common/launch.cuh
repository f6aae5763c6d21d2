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

// Launch `kernel` and return the launch's own status (0 or a cudaError_t). The arguments are converted
// to the kernel's parameter types; nothing is read from or left in the thread's last-error slot when
// the launch is good.
template <typename... Parameters>
int32_t launch(
    void (*kernel)(Parameters...), int64_t blocks, int threads, void* stream,
    typename Same<Parameters>::type... arguments) {
    void* pointers[] = {static_cast<void*>(&arguments)...};
    const cudaError_t status = cudaLaunchKernel(
        reinterpret_cast<const void*>(kernel), dim3(static_cast<unsigned>(blocks)),
        dim3(static_cast<unsigned>(threads)), pointers, 0, static_cast<cudaStream_t>(stream));
    if (status != cudaSuccess) {
        (void)cudaGetLastError();  // reported here: do not let the caller's next check find it again
    }
    return static_cast<int32_t>(status);
}

}  // namespace trtyard
