// MultiscaleRoIAlign as a TensorRT plugin, for every plugin API. The contract is in README.md.
#pragma once

#include "common/plugin_op.h"

namespace trtyard {

struct MultiscaleRoiAlignPlugin {
    static constexpr char const* kName = "MultiscaleRoIAlign";
    static constexpr int32_t kMaps = 5;
    static constexpr int32_t kRois = kMaps;
    static constexpr int32_t kBatchIndices = kMaps + 1;
    static constexpr int32_t kInputs = kMaps + 2;  // maps [B, C, H, W], rois [R, 4], batch_indices [R]
    static constexpr int32_t kOutputs = 1;  // pooled [R, C, output_height, output_width]

    int32_t output_height;
    int32_t output_width;
    int32_t sampling_ratio;
    int32_t aligned;
    int32_t canonical_scale;
    int32_t canonical_level;
    float scales[kMaps];  // 0: there is no such map

    template <typename Self, typename Visitor>
    static void visit(Self& self, Visitor const& visitor) {
        visitor("output_height", self.output_height);
        visitor("output_width", self.output_width);
        visitor("sampling_ratio", self.sampling_ratio);
        visitor("aligned", self.aligned);
        visitor("canonical_scale", self.canonical_scale);
        visitor("canonical_level", self.canonical_level);
        visitor("scale_0", self.scales[0]);
        visitor("scale_1", self.scales[1]);
        visitor("scale_2", self.scales[2]);
        visitor("scale_3", self.scales[3]);
        visitor("scale_4", self.scales[4]);
    }

    static bool is_optional(char const* name) {
        return std::strcmp(name, "scale_2") == 0 || std::strcmp(name, "scale_3") == 0 ||
               std::strcmp(name, "scale_4") == 0;
    }

    int32_t levels() const {
        int32_t count = 0;
        while (count < kMaps && scales[count] != 0.0f) {
            ++count;
        }
        return count;
    }

    char const* problem() const {
        if (output_height < 0 || output_width < 0 || sampling_ratio < 0) {
            return "output_height, output_width and sampling_ratio must not be negative";
        }
        if (canonical_scale < 1) {
            return "canonical_scale must be positive";
        }
        int32_t const count = levels();
        bool good = count >= 2;
        for (int32_t i = 0; i < kMaps; ++i) {
            bool const positive = scales[i] > 0.0f && scales[i] - scales[i] == 0.0f;
            good = good && (i < count ? positive : scales[i] == 0.0f);
        }
        if (!good || scales[0] < scales[count - 1]) {
            return "the scales must be two to five positive numbers, the finest map's first";
        }
        return aligned == 0 || aligned == 1 ? nullptr : "aligned must be 0 or 1";
    }

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
