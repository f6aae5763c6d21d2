// Hopper's ways to overlap: bulk copies out of shared memory, and a kernel that starts before the one
// it depends on has ended. On earlier GPUs and with earlier compilers the first is absent and the second
// does nothing; launches do not overlap then (launch.cuh).
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

// PTX has bulk copies from 8.0 on, which came with CUDA 12.0; sm_90 came with 11.8.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900 && __CUDACC_VER_MAJOR__ >= 12
#define TRTYARD_HAS_BULK_COPY 1
#else
#define TRTYARD_HAS_BULK_COPY 0
#endif

namespace trtyard {

// Bytes that the addresses and the size of a bulk copy are multiples of.
constexpr int kBulkAlignment = 16;

#if TRTYARD_HAS_BULK_COPY

// Makes this thread's writes to shared memory visible to bulk copies that start after the next
// barrier.
__device__ inline void fence_bulk_copies() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// Starts the copy; it belongs to the calling thread's group of the same number of calls.
__device__ inline void start_bulk_store(void* global, const void* shared, unsigned bytes) {
    const unsigned source = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    asm volatile(
        "cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;\n\t"
        "cp.async.bulk.commit_group;" ::"l"(__cvta_generic_to_global(global)),
        "r"(source), "r"(bytes)
        : "memory");
}

// Waits until the calling thread's copies, but for the latest kRunning, no longer read shared memory.
template <int kRunning>
__device__ inline void wait_bulk_reads() {
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kRunning) : "memory");
}

#endif

// Waits until the kernels that this one depends on have ended and their writes can be seen.
__device__ inline void wait_for_prior_kernel() {
#if TRTYARD_HAS_BULK_COPY
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Lets a dependent kernel start as soon as every block has come here.
__device__ inline void let_next_kernel_start() {
#if TRTYARD_HAS_BULK_COPY
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

}  // namespace trtyard
