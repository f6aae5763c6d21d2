// MaskRcnnROIAlign as a TensorRT plugin, for every plugin API. The contract is in README.md.
#pragma once

#include "common/plugin_op.h"
#include "maskrcnn_roi_align/maskrcnn_roi_align_attributes.h"

namespace trtyard {

struct MaskRcnnRoiAlignPlugin : MaskRcnnRoiAlignAttributes {
    void output_types(DataType const* inputs, DataType* outputs) const { outputs[0] = inputs[0]; }

    char const* output_shapes(
        nvinfer1::DimsExprs const* inputs, nvinfer1::DimsExprs* outputs,
        nvinfer1::IExprBuilder& builder) const {
        if (inputs[0].nbDims != 4 || inputs[1].nbDims != 2 || inputs[2].nbDims != 1) {
            return "features must be [B, C, H, W], rois [R, 4] and batch_indices [R]";
        }
        outputs[0].nbDims = 4;
        outputs[0].d[0] = inputs[1].d[0];
        outputs[0].d[1] = inputs[0].d[1];
        outputs[0].d[2] = builder.constant(output_height);
        outputs[0].d[3] = builder.constant(output_width);
        return nullptr;
    }

    template <typename Desc>
    bool supports(int32_t position, Desc const& desc) const {
        switch (position) {
            case 0: return dtype_of(desc(0).type) >= 0 && format_of(desc(0)) >= 0;
            case 1: return desc(1).type == DataType::kFLOAT && is_linear(desc(1));
            case 2: return desc(2).type == DataType::kINT32 && is_linear(desc(2));
            default: return desc(3).type == desc(0).type && format_of(desc(3)) >= 0;
        }
    }

    template <typename Dims>
    size_t workspace(Dims const& dims) const {
        auto const& map = dims(0);
        return trtyard_roi_align_workspace(
            to_int32(map.d[0]), to_int32(map.d[1]), to_int32(map.d[2]), to_int32(map.d[3]),
            to_int32(dims(1).d[0]), output_height, output_width);
    }

    int32_t enqueue(
        nvinfer1::PluginTensorDesc const* descs, nvinfer1::PluginTensorDesc const* output_descs,
        void const* const* inputs, void* const* outputs, void* workspace, size_t workspace_bytes,
        cudaStream_t stream) const {
        auto const& map = descs[0].dims;
        return trtyard_roi_align(
            inputs[0], static_cast<float const*>(inputs[1]),
            static_cast<int32_t const*>(inputs[2]), outputs[0], to_int32(map.d[0]),
            to_int32(map.d[1]), to_int32(map.d[2]), to_int32(map.d[3]),
            to_int32(descs[1].dims.d[0]), output_height, output_width, spatial_scale,
            sampling_ratio, aligned, mode, dtype_of(descs[0].type), format_of(descs[0]),
            format_of(output_descs[0]), workspace, workspace_bytes, stream);
    }
};

}  // namespace trtyard
