// The matrix units' kernels for half. One file for each type, so that they compile in parallel.
#include "maskrcnn_roi_align/matrix.cuh"

namespace trtyard {
namespace maskrcnn_roi_align {

template <>
int32_t run_resident<__half>(const Call<__half>& call) {
    return run_on_matrix_units(call);
}

}  // namespace maskrcnn_roi_align
}  // namespace trtyard
