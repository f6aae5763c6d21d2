// MultiscaleRoIAlign as a custom op of ONNX Runtime.
#pragma once

#include "common/ort_op.h"
#include "maskrcnn_roi_align/maskrcnn_roi_align_cpu.h"
#include "multiscale_roi_align/levels.cuh"
#include "multiscale_roi_align/multiscale_roi_align_attributes.h"

namespace trtyard {

struct MultiscaleRoiAlignOrt : MultiscaleRoiAlignAttributes {
    static constexpr OrtType kInputTypes[] = {
        kElement, kElement, kElement, kElement, kElement,
        ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32};
    static constexpr OrtType kOutputTypes[] = {kElement};

    int32_t run(Call& call) const {
        Maps maps{};
        maps.count = levels();
        const auto finest = call.dims(0, 4);
        for (int32_t i = 0; i < maps.count; ++i) {
            const auto map = call.dims(static_cast<size_t>(i), 4);
            if (map[0] != finest[0] || map[1] != finest[1]) {
                throw std::invalid_argument("the maps must have the same batch and channels");
            }
            maps.features[i] = call.input(static_cast<size_t>(i));
            maps.heights[i] = map[2];
            maps.widths[i] = map[3];
        }
        const auto rois = call.dims(kRois, 2);
        if (rois[1] != 4 || call.dims(kBatchIndices, 1)[0] != rois[0]) {
            throw std::invalid_argument("rois must be [R, 4] and batch_indices [R]");
        }
        void* pooled = call.output(0, {rois[0], finest[1], output_height, output_width});
        auto const* corners = static_cast<float const*>(call.input(kRois));
        auto const* images = static_cast<int32_t const*>(call.input(kBatchIndices));
        if (call.on_cpu()) {
            return with_element_type(call.dtype(), [&](auto element) {
                using T = decltype(element);
                const int64_t stride =
                    static_cast<int64_t>(finest[1]) * output_height * output_width;
                call.parallel(rois[0], [&](int64_t roi) {
                    pool_on_cpu(
                        maps, finest, corners + roi * 4, images[roi],
                        static_cast<T*>(pooled) + roi * stride);
                });
                return TRTYARD_OK;
            });
        }
        const size_t bytes =
            trtyard_multiscale_roi_align_workspace(rois[0], output_height, output_width);
        return trtyard_multiscale_roi_align(
            maps.features, corners, images, pooled, maps.heights, maps.widths, scales, maps.count,
            finest[0], finest[1], rois[0], output_height, output_width, sampling_ratio, aligned,
            canonical_scale, canonical_level, call.dtype(), TRTYARD_NCHW, TRTYARD_NCHW,
            call.workspace(bytes), bytes, call.stream());
    }

private:
    struct Maps {
        void const* features[kMaps];
        int32_t heights[kMaps], widths[kMaps];
        int32_t count;
    };

    template <typename T>
    void pool_on_cpu(
        Maps const& maps, std::vector<int32_t> const& finest, float const* corners, int32_t image,
        T* pooled) const {
        using namespace maskrcnn_roi_align;
        const Levels levels{
            level_of_scale(scales[0]), level_of_scale(scales[maps.count - 1]),
            static_cast<float>(canonical_scale), static_cast<float>(canonical_level)};
        const int32_t index = map_of_roi(corners, levels);
        const bool exists = index >= 0 && index < maps.count;
        const int32_t map = exists ? index : 0;
        const CpuMap sizes{finest[0], finest[1], maps.heights[map], maps.widths[map]};
        const CpuPooling pooling{
            output_height, output_width, scales[map], sampling_ratio, aligned == 1, false};
        pool_roi_on_cpu(
            static_cast<T const*>(maps.features[map]), corners, exists ? image : -1, sizes, pooling,
            pooled);
    }
};

}  // namespace trtyard
