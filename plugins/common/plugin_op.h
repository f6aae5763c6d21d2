// What the plugins of every API share: an op (a small struct) and its attributes.
//
// An Op has
//   kName, kInputs, kOutputs
//   visit(self, visitor)   calls visitor(name, member) for each attribute, an int32_t or a float
//   is_optional(name)      whether the attribute (one of the last) may be missing; it is 0 then
//   problem()              why the attributes are invalid, or null
//   output_types(inputs, outputs), output_shapes(inputs, outputs, builder) -> an error, or null
//   supports(position, desc)   whether tensor `position` may have this type and format, given those of
//                          the tensors before it; desc(i) has those of tensor i
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
constexpr int32_t kMostAttributes = 12;

// The domain of the nodes. Each op is registered in this namespace and in the empty one.
constexpr char const* kDomain = "trtyard";

// TensorRT for RTX, whose releases start at 1, has no V2 API.
constexpr bool is_v2_release(int major) { return major >= 5 && major < 10; }

// Logs "op: what words" with TensorRT's logger, if there is one.
void log_error(char const* op, char const* what, char const* words) noexcept;

inline PluginFieldType field_type(float) { return PluginFieldType::kFLOAT32; }
inline PluginFieldType field_type(int32_t) { return PluginFieldType::kINT32; }

// The kernels' number for an element type, or a number that they refuse.
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

// TensorRT uses 64-bit sizes, the kernels 32-bit. A size that does not fit becomes -1, which they refuse.
inline int32_t to_int32(int64_t size) {
    return size >= 0 && size <= std::numeric_limits<int32_t>::max() ? static_cast<int32_t>(size)
                                                                    : -1;
}

inline bool is_linear(nvinfer1::PluginTensorDesc const& desc) {
    return desc.format == nvinfer1::TensorFormat::kLINEAR;
}

// The kernels' number for the memory layout of a tensor [N, C, H, W], or a number that they refuse.
// TensorRT pads channels of 16-bit types only.
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

// The attributes of an op as plugin fields, with or without values.
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

// Whether the attributes are valid; logs what is not.
template <typename Op>
bool check_op(Op const& op) {
    if (op.problem() != nullptr) {
        log_error(Op::kName, "attribute out of range:", op.problem());
    }
    return op.problem() == nullptr;
}

// Reads the attributes from plugin fields, of a node or of a V3 engine. All but the optional ones must be
// there, each with its type.
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
