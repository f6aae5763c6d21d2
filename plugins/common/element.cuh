// Element types of the kernels. Every type is loaded as float32 and computed in float32.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>
#if CUDART_VERSION >= 11000
#include <cuda_bf16.h>
#endif

#include <cstdint>

#include "trtyard_kernels.h"

namespace trtyard {

__host__ __device__ inline float to_float(float value) { return value; }
__host__ __device__ inline float to_float(__half value) { return __half2float(value); }

template <typename T>
__host__ __device__ T from_float(float value);
template <>
__host__ __device__ inline float from_float<float>(float value) { return value; }
template <>
__host__ __device__ inline __half from_float<__half>(float value) { return __float2half_rn(value); }

#if CUDART_VERSION >= 11000
__host__ __device__ inline float to_float(__nv_bfloat16 value) { return __bfloat162float(value); }
template <>
__host__ __device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float value) {
    return __float2bfloat16_rn(value);
}
#endif

// Calls function(T{}) with the C++ type of `dtype`; an unknown dtype returns an error status.
template <typename Function>
int32_t with_element_type(int32_t dtype, const Function& function) {
    switch (dtype) {
        case TRTYARD_FLOAT32: return function(float{});
        case TRTYARD_FLOAT16: return function(__half{});
#if CUDART_VERSION >= 11000
        case TRTYARD_BFLOAT16: return function(__nv_bfloat16{});
#endif
        default: return TRTYARD_UNSUPPORTED_DTYPE;
    }
}

inline bool is_element_type(int32_t dtype) {
    return dtype == TRTYARD_FLOAT32 || dtype == TRTYARD_FLOAT16 ||
           (dtype == TRTYARD_BFLOAT16 && CUDART_VERSION >= 11000);
}

}  // namespace trtyard
