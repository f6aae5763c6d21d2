// The matrix units' kernels for bfloat16. One file for each type, so that they compile in parallel.
#include "maskrcnn_roi_align/matrix.cuh"

#if CUDART_VERSION >= 11000

namespace trtyard {
namespace maskrcnn_roi_align {

template <>
int32_t run_resident<__nv_bfloat16>(const Call<__nv_bfloat16>& call) {
    return run_on_matrix_units(call);
}

}  // namespace maskrcnn_roi_align
}  // namespace trtyard

#endif
