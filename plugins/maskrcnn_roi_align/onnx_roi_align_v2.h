// ONNX's RoiAlign as a V2 plugin: the kernels of MaskRcnnROIAlign with ONNX's name, inputs and attributes, for
// stock files. A parser with its own importer of RoiAlign uses the plugin on request only:
// TRTYARD_PLUGIN_OVERRIDE=RoiAlign in row 8.6 (docs/patches.md).
#pragma once

#include <string>

#include "common/plugin_v2.h"
#include "maskrcnn_roi_align/maskrcnn_roi_align_plugin.h"

namespace trtyard {

// X [B, C, H, W], rois [R, 4], batch_indices [R]; the parser converts these from int64 to int32.
struct OnnxRoiAlign : MaskRcnnRoiAlignPlugin {
    static constexpr char const* kName = "RoiAlign";
};

class OnnxRoiAlignCreator final : public nvinfer1::IPluginCreator {
public:
    char const* getPluginName() const noexcept override { return OnnxRoiAlign::kName; }
    char const* getPluginVersion() const noexcept override { return kPluginVersion; }
    char const* getPluginNamespace() const noexcept override { return ""; }
    void setPluginNamespace(char const*) noexcept override {}
    PluginFieldCollection const* getFieldNames() noexcept override { return &collection_; }

    nvinfer1::IPluginV2DynamicExt* createPlugin(
        char const*, PluginFieldCollection const* given) noexcept override {
        OnnxRoiAlign op{};
        op.output_height = op.output_width = 1;
        op.spatial_scale = 1.0f;
        for (int32_t i = 0; given != nullptr && i < given->nbFields; ++i) {
            if (!take(given->fields[i], op)) {
                return nullptr;
            }
        }
        return is_transformation_known(given) && check_op(op)
                   ? new (std::nothrow) PluginV2<OnnxRoiAlign>(op, "")
                   : nullptr;
    }

    nvinfer1::IPluginV2DynamicExt* deserializePlugin(
        char const* name, void const* data, size_t length) noexcept override {
        return stored_.deserializePlugin(name, data, length);
    }

private:
    static constexpr char const* kTransformation = "coordinate_transformation_mode";

    static bool is(PluginField const& field, char const* name) {
        return std::strcmp(field.name, name) == 0;
    }

    template <typename T>
    static bool number(PluginField const& field, T& member) {
        const bool fits = field.type == field_type(member) && field.length == 1 && field.data != nullptr;
        if (fits) {
            std::memcpy(&member, field.data, sizeof(T));
        } else {
            log_error(OnnxRoiAlign::kName, field.name, "is of the wrong type");
        }
        return fits;
    }

    // In some parsers the length includes the NUL.
    static bool has_text(PluginField const& field, char const* words) {
        if (field.type != PluginFieldType::kCHAR || field.data == nullptr || field.length < 0) {
            return false;
        }
        std::string text(static_cast<char const*>(field.data), static_cast<size_t>(field.length));
        return text.substr(0, text.find('\0')) == words;
    }

    static bool take(PluginField const& field, OnnxRoiAlign& op) {
        if (is(field, "output_height")) { return number(field, op.output_height); }
        if (is(field, "output_width")) { return number(field, op.output_width); }
        if (is(field, "sampling_ratio")) { return number(field, op.sampling_ratio); }
        if (is(field, "spatial_scale")) { return number(field, op.spatial_scale); }
        if (is(field, "mode")) {
            op.mode = has_text(field, "max") ? TRTYARD_MAXIMUM : TRTYARD_AVERAGE;
            if (op.mode == TRTYARD_AVERAGE && !has_text(field, "avg")) {
                log_error(OnnxRoiAlign::kName, "mode", "is none of ONNX's");
                return false;
            }
        }
        if (is(field, kTransformation)) {
            op.aligned = has_text(field, "half_pixel");
            if (op.aligned == 0 && !has_text(field, "output_half_pixel")) {
                log_error(OnnxRoiAlign::kName, kTransformation, "is none of ONNX's");
                return false;
            }
        }
        return true;
    }

    // A missing attribute means half_pixel from opset 16 on, and output_half_pixel before. A plugin does not
    // know the opset, and half a pixel is too much to guess. Only in TensorRT 7 is it clear: its parser
    // supports no opset from 16 on.
    static bool is_transformation_known(PluginFieldCollection const* given) {
        bool known = NV_TENSORRT_MAJOR < 8;
        for (int32_t i = 0; given != nullptr && i < given->nbFields; ++i) {
            known = known || is(given->fields[i], kTransformation);
        }
        if (!known) {
            log_error(OnnxRoiAlign::kName, kTransformation, "is missing: export at opset 16 or newer");
        }
        return known;
    }

    std::array<PluginField, 6> fields_{{
        {"output_height", nullptr, PluginFieldType::kINT32, 0},
        {"output_width", nullptr, PluginFieldType::kINT32, 0},
        {"sampling_ratio", nullptr, PluginFieldType::kINT32, 0},
        {"spatial_scale", nullptr, PluginFieldType::kFLOAT32, 0},
        {"mode", nullptr, PluginFieldType::kCHAR, 0},
        {kTransformation, nullptr, PluginFieldType::kCHAR, 0},
    }};
    PluginFieldCollection collection_{static_cast<int32_t>(fields_.size()), fields_.data()};
    CreatorV2<OnnxRoiAlign> stored_{""};
};

}  // namespace trtyard
