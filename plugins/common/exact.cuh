// Float32 operations that round once, the same on the device and on the host.
//
// A compiler may fuse a * b + c into one operation, which rounds once instead of twice. nvcc never fuses the
// _rn intrinsics. Host code is compiled with -ffp-contract=off.
#pragma once

#include <cuda_runtime.h>

#include <cmath>

namespace trtyard {

#ifdef __CUDA_ARCH__
#define TRTYARD_EXACT(INTRINSIC, a, OPERATOR, b) INTRINSIC(a, b)
#else
#define TRTYARD_EXACT(INTRINSIC, a, OPERATOR, b) ((a) OPERATOR (b))
#endif

__host__ __device__ inline float add(float a, float b) { return TRTYARD_EXACT(__fadd_rn, a, +, b); }
__host__ __device__ inline float subtract(float a, float b) {
    return TRTYARD_EXACT(__fsub_rn, a, -, b);
}
__host__ __device__ inline float multiply(float a, float b) {
    return TRTYARD_EXACT(__fmul_rn, a, *, b);
}
__host__ __device__ inline float quotient(float a, float b) {
    return TRTYARD_EXACT(__fdiv_rn, a, /, b);
}

__host__ __device__ inline float square_root(float a) {
#ifdef __CUDA_ARCH__
    return __fsqrt_rn(a);
#else
    return std::sqrt(a);
#endif
}

#undef TRTYARD_EXACT

}  // namespace trtyard
