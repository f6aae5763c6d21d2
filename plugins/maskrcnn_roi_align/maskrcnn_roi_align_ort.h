// MaskRcnnROIAlign as a custom op of ONNX Runtime.
#pragma once

#include "common/ort_op.h"
#include "maskrcnn_roi_align/maskrcnn_roi_align_attributes.h"
#include "maskrcnn_roi_align/maskrcnn_roi_align_cpu.h"

namespace trtyard {

struct MaskRcnnRoiAlignOrt : MaskRcnnRoiAlignAttributes {
    static constexpr OrtType kInputTypes[] = {
        kElement, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32};
    static constexpr OrtType kOutputTypes[] = {kElement};

    int32_t run(Call& call) const {
        const auto map = call.dims(0, 4);
        const auto rois = call.dims(1, 2);
        if (rois[1] != 4 || call.dims(2, 1)[0] != rois[0]) {
            throw std::invalid_argument("rois must be [R, 4] and batch_indices [R]");
        }
        void* pooled = call.output(0, {rois[0], map[1], output_height, output_width});
        if (call.on_cpu()) {
            return with_element_type(call.dtype(), [&](auto element) {
                return run_on_cpu(call, map, rois[0], static_cast<decltype(element)*>(pooled));
            });
        }
        const size_t bytes = trtyard_roi_align_workspace(
            map[0], map[1], map[2], map[3], rois[0], output_height, output_width);
        return trtyard_roi_align(
            call.input(0), static_cast<float const*>(call.input(1)),
            static_cast<int32_t const*>(call.input(2)), pooled, map[0], map[1], map[2], map[3],
            rois[0], output_height, output_width, spatial_scale, sampling_ratio, aligned, mode,
            call.dtype(), TRTYARD_NCHW, TRTYARD_NCHW, call.workspace(bytes), bytes, call.stream());
    }

private:
    template <typename T>
    int32_t run_on_cpu(
        Call const& call, std::vector<int32_t> const& map, int32_t rois, T* pooled) const {
        const maskrcnn_roi_align::CpuMap sizes{map[0], map[1], map[2], map[3]};
        const maskrcnn_roi_align::CpuPooling pooling{
            output_height, output_width, spatial_scale,
            sampling_ratio, aligned == 1, mode == TRTYARD_MAXIMUM};
        const int64_t stride = static_cast<int64_t>(map[1]) * output_height * output_width;
        auto const* features = static_cast<T const*>(call.input(0));
        auto const* corners = static_cast<float const*>(call.input(1));
        auto const* images = static_cast<int32_t const*>(call.input(2));
        call.parallel(rois, [&](int64_t roi) {
            maskrcnn_roi_align::pool_roi_on_cpu(
                features, corners + roi * 4, images[roi], sizes, pooling, pooled + roi * stride);
        });
        return TRTYARD_OK;
    }
};

}  // namespace trtyard
