// What the shells of every plugin API share: an op (a small struct) and its attributes.
//
// An Op has
//   kName, kInputs, kOutputs
//   visit(self, visitor)   calls visitor(name, member) for each attribute, an int32_t or a float
//   is_optional(name)      whether a node or an engine may lack the attribute (one of the last): 0 then
//   problem()              why the attributes make no sense, or null
//   output_types(inputs, outputs), output_shapes(inputs, outputs, builder) -> why not, or null
//   supports(position, desc)   whether this type and format of tensor `position` is taken beside those
//                          before; desc(i) has tensor i's
//   workspace(dims)        bytes, dims(i) are the dimensions of input i
//   enqueue(...)           a status of trtyard_kernels.h
#pragma once

#include <NvInferRuntime.h>
#include <NvInferVersion.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <limits>
#include <new>

#include "trtyard_kernels.h"

namespace trtyard {

using nvinfer1::DataType;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldCollection;
using nvinfer1::PluginFieldType;

constexpr char const* kPluginVersion = "1";
constexpr int32_t kFailed = -1;
constexpr int32_t kMostAttributes = 8;

// The domain of the nodes. Each op is registered there and in the empty namespace.
constexpr char const* kDomain = "trtyard";

// TensorRT counts its releases, TensorRT for RTX from 1.
constexpr bool is_v2_release(int major) { return major >= 5 && major < 10; }

// "op: what words", through TensorRT's logger where there is a way to it.
void log_error(char const* op, char const* what, char const* words) noexcept;

inline PluginFieldType field_type(float) { return PluginFieldType::kFLOAT32; }
inline PluginFieldType field_type(int32_t) { return PluginFieldType::kINT32; }

// The kernels' number for an element type, or one that they refuse.
inline int32_t dtype_of(DataType type) {
    switch (type) {
        case DataType::kFLOAT: return TRTYARD_FLOAT32;
        case DataType::kHALF: return TRTYARD_FLOAT16;
#if NV_TENSORRT_MAJOR < 5 || NV_TENSORRT_MAJOR >= 10
        case DataType::kBF16: return TRTYARD_BFLOAT16;
#endif
        default: return -1;
    }
}

// TensorRT counts in 64 bits, the kernels in 32; they refuse what does not fit, as -1.
inline int32_t to_int32(int64_t size) {
    return size >= 0 && size <= std::numeric_limits<int32_t>::max() ? static_cast<int32_t>(size)
                                                                    : -1;
}

inline bool is_linear(nvinfer1::PluginTensorDesc const& desc) {
    return desc.format == nvinfer1::TensorFormat::kLINEAR;
}

// The kernels' number for how a tensor [N, C, H, W] lies in memory, or one that they refuse. TensorRT
// pads the channels of 16 bits, and only those.
inline int32_t format_of(nvinfer1::PluginTensorDesc const& desc) {
    const bool is_float = desc.type == DataType::kFLOAT;
    switch (desc.format) {
        case nvinfer1::TensorFormat::kLINEAR: return TRTYARD_NCHW;
        case nvinfer1::TensorFormat::kHWC8: return is_float ? -1 : TRTYARD_NHWC8;
#if NV_TENSORRT_MAJOR < 5 || NV_TENSORRT_MAJOR >= 8
        case nvinfer1::TensorFormat::kHWC: return is_float ? TRTYARD_NHWC : -1;
#endif
        default: return -1;
    }
}

// The attributes of an op as plugin fields, with or without their values.
template <typename Op>
class Fields {
public:
    PluginFieldCollection const* of(Op const& op, bool values) noexcept {
        int32_t count = 0;
        Op::visit(op, [&](char const* name, auto const& member) {
            fields_[count++] = {name, values ? &member : nullptr, field_type(member), values ? 1 : 0};
        });
        collection_ = {count, fields_.data()};
        return &collection_;
    }

private:
    std::array<PluginField, kMostAttributes> fields_{};
    PluginFieldCollection collection_{};
};

template <typename T>
bool read_field(
    PluginFieldCollection const* given, char const* name, bool is_optional, T& member) {
    for (int32_t i = 0; given != nullptr && i < given->nbFields; ++i) {
        PluginField const& field = given->fields[i];
        if (std::strcmp(field.name, name) == 0) {
            const bool fits =
                field.type == field_type(member) && field.length == 1 && field.data != nullptr;
            if (fits) {
                std::memcpy(&member, field.data, sizeof(T));
            }
            return fits;
        }
    }
    return is_optional;
}

// Whether the attributes make sense; says what does not.
template <typename Op>
bool check_op(Op const& op) {
    if (op.problem() != nullptr) {
        log_error(Op::kName, "attribute out of range:", op.problem());
    }
    return op.problem() == nullptr;
}

// Every attribute but optional ones must be given, with its own type; so it is in a node and in a V3
// engine.
template <typename Op>
bool read_op(PluginFieldCollection const* given, Op& op) {
    bool complete = true;
    Op::visit(op, [&](char const* name, auto& member) {
        if (!read_field(given, name, Op::is_optional(name), member)) {
            log_error(Op::kName, name, "is missing or of the wrong type");
            complete = false;
        }
    });
    return complete && check_op(op);
}

}  // namespace trtyard
