// The parts of the C interface that are not about one op.
#include <cuda_runtime.h>

#include "trtyard_kernels.h"

extern "C" int32_t trtyard_abi_version(void) { return TRTYARD_ABI_VERSION; }

extern "C" const char* trtyard_status_string(int32_t status) {
    switch (status) {
        case TRTYARD_OK: return "ok";
        case TRTYARD_BAD_ARGUMENT:
            return "bad argument: a negative size, a null pointer to data or an attribute out of range";
        case TRTYARD_WORKSPACE_TOO_SMALL:
            return "workspace too small: give what the op's workspace function asks";
        case TRTYARD_WORKSPACE_MISALIGNED: return "workspace not aligned to 256 bytes";
        case TRTYARD_UNSUPPORTED_DTYPE:
            return "unsupported dtype: 0 is float32, 1 is float16, 2 is bfloat16";
        case TRTYARD_TOO_LARGE: return "too large: more than 2^31 - 1 scores or roi coordinates";
        default: break;
    }
    // The CUDA runtime's text; it also has one for unknown numbers.
    return status > 0 ? cudaGetErrorString(static_cast<cudaError_t>(status)) : "unknown status";
}
