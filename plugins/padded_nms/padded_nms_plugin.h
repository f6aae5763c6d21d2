// PaddedNMS as a TensorRT plugin, for every plugin API. The contract is in README.md.
#pragma once

#include "common/plugin_op.h"
#include "padded_nms/padded_nms_attributes.h"

namespace trtyard {

struct PaddedNmsPlugin : PaddedNmsAttributes {
    void output_types(DataType const*, DataType* outputs) const {
        outputs[0] = outputs[1] = DataType::kINT32;
    }

    char const* output_shapes(
        nvinfer1::DimsExprs const* inputs, nvinfer1::DimsExprs* outputs,
        nvinfer1::IExprBuilder& builder) const {
        if (inputs[0].nbDims != 4 || inputs[1].nbDims != 3) {
            return "boxes must be [B, Cb, N, 4] and scores [B, C, N]";
        }
        outputs[0].nbDims = 2;
        outputs[0].d[0] = inputs[1].d[0];
        outputs[0].d[1] = builder.constant(keep_top_k);
        outputs[1].nbDims = 1;
        outputs[1].d[0] = inputs[1].d[0];
        return nullptr;
    }

    template <typename Desc>
    bool supports(int32_t position, Desc const& desc) const {
        if (!is_linear(desc(position))) {
            return false;
        }
        if (position >= kInputs) {
            return desc(position).type == DataType::kINT32;
        }
        return dtype_of(desc(position).type) >= 0 && desc(position).type == desc(0).type;
    }

    template <typename Dims>
    size_t workspace(Dims const& dims) const {
        auto const& scores = dims(1);
        return trtyard_padded_nms_workspace(
            to_int32(scores.d[0]), to_int32(scores.d[1]), to_int32(scores.d[2]), keep_top_k);
    }

    int32_t enqueue(
        nvinfer1::PluginTensorDesc const* descs, nvinfer1::PluginTensorDesc const*,
        void const* const* inputs, void* const* outputs, void* workspace, size_t workspace_bytes,
        cudaStream_t stream) const {
        auto const& scores = descs[1].dims;
        return trtyard_padded_nms(
            inputs[0], inputs[1], static_cast<int32_t*>(outputs[0]),
            static_cast<int32_t*>(outputs[1]), to_int32(scores.d[0]), to_int32(scores.d[1]),
            to_int32(descs[0].dims.d[1]), to_int32(scores.d[2]), keep_top_k, iou_threshold,
            score_threshold, box_offset, dtype_of(descs[0].type), workspace, workspace_bytes,
            stream);
    }
};

}  // namespace trtyard
