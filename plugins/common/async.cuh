// Two ways to overlap work on Hopper: bulk copies out of shared memory, and a kernel that starts before the
// kernel it depends on has ended. On earlier GPUs and with earlier compilers bulk copies do not exist, and
// launches do not overlap (launch.cuh).
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

// Bulk copies need PTX 8.0, which came with CUDA 12.0; sm_90 came with 11.8.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900 && __CUDACC_VER_MAJOR__ >= 12
#define TRTYARD_HAS_BULK_COPY 1
#else
#define TRTYARD_HAS_BULK_COPY 0
#endif

namespace trtyard {

// The addresses and the size of a bulk copy are multiples of this many bytes.
constexpr int kBulkAlignment = 16;

#if TRTYARD_HAS_BULK_COPY

// Makes this thread's writes to shared memory visible to bulk copies that start after the next
// barrier.
__device__ inline void fence_bulk_copies() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// Starts a copy, in a bulk group of its own. Only the calling thread can wait for it.
__device__ inline void start_bulk_store(void* global, const void* shared, unsigned bytes) {
    const unsigned source = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    asm volatile(
        "cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;\n\t"
        "cp.async.bulk.commit_group;" ::"l"(__cvta_generic_to_global(global)),
        "r"(source), "r"(bytes)
        : "memory");
}

// Waits until the calling thread's copies, except the latest kRunning, have read shared memory.
template <int kRunning>
__device__ inline void wait_bulk_reads() {
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kRunning) : "memory");
}

#endif

// Waits until the kernels that this one depends on have ended and their writes are visible.
__device__ inline void wait_for_prior_kernel() {
#if TRTYARD_HAS_BULK_COPY
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Lets a dependent kernel start when every block has called this.
__device__ inline void let_next_kernel_start() {
#if TRTYARD_HAS_BULK_COPY
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

}  // namespace trtyard
