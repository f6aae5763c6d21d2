// MultiscaleRoIAlign as a TensorRT plugin, for every plugin API. The contract is in README.md.
#pragma once

#include "common/plugin_op.h"
#include "multiscale_roi_align/multiscale_roi_align_attributes.h"

namespace trtyard {

struct MultiscaleRoiAlignPlugin : MultiscaleRoiAlignAttributes {
    void output_types(DataType const* inputs, DataType* outputs) const { outputs[0] = inputs[0]; }

    char const* output_shapes(
        nvinfer1::DimsExprs const* inputs, nvinfer1::DimsExprs* outputs,
        nvinfer1::IExprBuilder& builder) const {
        bool good = inputs[kRois].nbDims == 2 && inputs[kBatchIndices].nbDims == 1;
        for (int32_t i = 0; i < kMaps; ++i) {
            good = good && inputs[i].nbDims == 4;
        }
        if (!good) {
            return "the maps must be [B, C, H, W], rois [R, 4] and batch_indices [R]";
        }
        outputs[0].nbDims = 4;
        outputs[0].d[0] = inputs[kRois].d[0];
        outputs[0].d[1] = inputs[0].d[1];
        outputs[0].d[2] = builder.constant(output_height);
        outputs[0].d[3] = builder.constant(output_width);
        return nullptr;
    }

    // All maps have the type and format of the first.
    template <typename Desc>
    bool supports(int32_t position, Desc const& desc) const {
        switch (position) {
            case 0: return dtype_of(desc(0).type) >= 0 && format_of(desc(0)) >= 0;
            case kRois: return desc(kRois).type == DataType::kFLOAT && is_linear(desc(kRois));
            case kBatchIndices:
                return desc(kBatchIndices).type == DataType::kINT32 &&
                       is_linear(desc(kBatchIndices));
            case kInputs:
                return desc(kInputs).type == desc(0).type && format_of(desc(kInputs)) >= 0;
            default:
                return desc(position).type == desc(0).type &&
                       format_of(desc(position)) == format_of(desc(0));
        }
    }

    template <typename Dims>
    size_t workspace(Dims const& dims) const {
        return trtyard_multiscale_roi_align_workspace(
            to_int32(dims(kRois).d[0]), output_height, output_width);
    }

    int32_t enqueue(
        nvinfer1::PluginTensorDesc const* descs, nvinfer1::PluginTensorDesc const* output_descs,
        void const* const* inputs, void* const* outputs, void* workspace, size_t workspace_bytes,
        cudaStream_t stream) const {
        int32_t const count = levels();
        int32_t heights[kMaps];
        int32_t widths[kMaps];
        auto const& finest = descs[0].dims;
        for (int32_t i = 0; i < count; ++i) {
            auto const& map = descs[i].dims;
            if (map.d[0] != finest.d[0] || map.d[1] != finest.d[1]) {
                return TRTYARD_BAD_ARGUMENT;
            }
            heights[i] = to_int32(map.d[2]);
            widths[i] = to_int32(map.d[3]);
        }
        return trtyard_multiscale_roi_align(
            inputs, static_cast<float const*>(inputs[kRois]),
            static_cast<int32_t const*>(inputs[kBatchIndices]), outputs[0], heights, widths, scales,
            count, to_int32(finest.d[0]), to_int32(finest.d[1]),
            to_int32(descs[kRois].dims.d[0]), output_height, output_width, sampling_ratio, aligned,
            canonical_scale, canonical_level, dtype_of(descs[0].type), format_of(descs[0]),
            format_of(output_descs[0]), workspace, workspace_bytes, stream);
    }
};

}  // namespace trtyard
