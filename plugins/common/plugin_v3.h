// What every V3 shell is made of: an op (a small struct) becomes a plugin and its creator.
//
// An Op has
//   kName, kInputs, kOutputs
//   visit(self, visitor)   calls visitor(name, member) for each attribute, an int32_t or a float
//   problem()              why the attributes make no sense, or null
//   output_types(inputs, outputs), output_shapes(inputs, outputs, builder) -> why not, or null
//   supports(position, desc)   desc(i) is the type and format of tensor i
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

// "op: what words", through the logger of the engine or context that called, if TensorRT gave one.
void log_error(char const* op, char const* what, char const* words) noexcept;

inline PluginFieldType field_type(float) { return PluginFieldType::kFLOAT32; }
inline PluginFieldType field_type(int32_t) { return PluginFieldType::kINT32; }

// The kernels' number for an element type, or one that they refuse.
inline int32_t dtype_of(DataType type) {
    switch (type) {
        case DataType::kFLOAT: return TRTYARD_FLOAT32;
        case DataType::kHALF: return TRTYARD_FLOAT16;
        case DataType::kBF16: return TRTYARD_BFLOAT16;
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

template <typename Op>
class Plugin final : public nvinfer1::IPluginV3,
                     public nvinfer1::IPluginV3OneCore,
                     public nvinfer1::IPluginV3OneBuild,
                     public nvinfer1::IPluginV3OneRuntime {
public:
    Plugin(Op const& op, char const* name_space) noexcept : op_(op), namespace_(name_space) {}

    nvinfer1::IPluginCapability* getCapabilityInterface(
        nvinfer1::PluginCapabilityType type) noexcept override {
        switch (type) {
            case nvinfer1::PluginCapabilityType::kCORE: return static_cast<IPluginV3OneCore*>(this);
            case nvinfer1::PluginCapabilityType::kBUILD:
                return static_cast<IPluginV3OneBuild*>(this);
            case nvinfer1::PluginCapabilityType::kRUNTIME:
                return static_cast<IPluginV3OneRuntime*>(this);
        }
        return nullptr;
    }

    nvinfer1::IPluginV3* clone() noexcept override {
        return new (std::nothrow) Plugin(op_, namespace_);
    }

    char const* getPluginName() const noexcept override { return Op::kName; }
    char const* getPluginVersion() const noexcept override { return kPluginVersion; }
    char const* getPluginNamespace() const noexcept override { return namespace_; }
    int32_t getNbOutputs() const noexcept override { return Op::kOutputs; }

    int32_t configurePlugin(
        nvinfer1::DynamicPluginTensorDesc const*, int32_t inputs,
        nvinfer1::DynamicPluginTensorDesc const*, int32_t outputs) noexcept override {
        return inputs == Op::kInputs && outputs == Op::kOutputs ? 0 : kFailed;
    }

    int32_t getOutputDataTypes(
        DataType* outputs, int32_t output_count, DataType const* inputs,
        int32_t input_count) const noexcept override {
        if (input_count != Op::kInputs || output_count != Op::kOutputs) {
            return fail("wrong number of inputs or outputs");
        }
        op_.output_types(inputs, outputs);
        return 0;
    }

    int32_t getOutputShapes(
        nvinfer1::DimsExprs const* inputs, int32_t input_count, nvinfer1::DimsExprs const*, int32_t,
        nvinfer1::DimsExprs* outputs, int32_t output_count,
        nvinfer1::IExprBuilder& builder) noexcept override {
        if (input_count != Op::kInputs || output_count != Op::kOutputs) {
            return fail("wrong number of inputs or outputs");
        }
        char const* problem = op_.output_shapes(inputs, outputs, builder);
        return problem == nullptr ? 0 : fail(problem);
    }

    bool supportsFormatCombination(
        int32_t position, nvinfer1::DynamicPluginTensorDesc const* tensors, int32_t,
        int32_t) noexcept override {
        const auto desc = [&](int32_t i) -> auto const& { return tensors[i].desc; };
        return is_linear(desc(position)) && op_.supports(position, desc);
    }

    size_t getWorkspaceSize(
        nvinfer1::DynamicPluginTensorDesc const* inputs, int32_t,
        nvinfer1::DynamicPluginTensorDesc const*, int32_t) const noexcept override {
        return op_.workspace([&](int32_t i) -> auto const& { return inputs[i].max; });
    }

    int32_t onShapeChange(
        nvinfer1::PluginTensorDesc const*, int32_t, nvinfer1::PluginTensorDesc const*,
        int32_t) noexcept override {
        return 0;
    }

    int32_t enqueue(
        nvinfer1::PluginTensorDesc const* descs, nvinfer1::PluginTensorDesc const*,
        void const* const* inputs, void* const* outputs, void* workspace,
        cudaStream_t stream) noexcept override {
        const size_t bytes =
            op_.workspace([&](int32_t i) -> auto const& { return descs[i].dims; });
        const int32_t status = op_.enqueue(descs, inputs, outputs, workspace, bytes, stream);
        return status == TRTYARD_OK ? 0 : fail(trtyard_status_string(status));
    }

    nvinfer1::IPluginV3* attachToContext(nvinfer1::IPluginResourceContext*) noexcept override {
        return clone();
    }

    PluginFieldCollection const* getFieldsToSerialize() noexcept override {
        return fields_.of(op_, true);
    }

private:
    static int32_t fail(char const* words) noexcept {
        log_error(Op::kName, "failed:", words);
        return kFailed;
    }

    Op op_;
    char const* namespace_;
    Fields<Op> fields_;
};

template <typename Op>
class Creator final : public nvinfer1::IPluginCreatorV3One {
public:
    explicit Creator(char const* name_space) noexcept : namespace_(name_space) {}

    char const* getPluginName() const noexcept override { return Op::kName; }
    char const* getPluginVersion() const noexcept override { return kPluginVersion; }
    char const* getPluginNamespace() const noexcept override { return namespace_; }

    PluginFieldCollection const* getFieldNames() noexcept override {
        return fields_.of(Op{}, false);
    }

    // Every attribute must be given, with its own type; so it is in a node and in an engine.
    nvinfer1::IPluginV3* createPlugin(
        char const*, PluginFieldCollection const* given,
        nvinfer1::TensorRTPhase) noexcept override {
        Op op{};
        bool complete = true;
        Op::visit(op, [&](char const* name, auto& member) {
            if (!read(given, name, member)) {
                log_error(Op::kName, name, "is missing or of the wrong type");
                complete = false;
            }
        });
        if (complete && op.problem() != nullptr) {
            log_error(Op::kName, "attribute out of range:", op.problem());
            complete = false;
        }
        return complete ? new (std::nothrow) Plugin<Op>(op, namespace_) : nullptr;
    }

private:
    template <typename T>
    static bool read(PluginFieldCollection const* given, char const* name, T& member) {
        for (int32_t i = 0; given != nullptr && i < given->nbFields; ++i) {
            PluginField const& field = given->fields[i];
            if (std::strcmp(field.name, name) == 0) {
                const bool fits = field.type == field_type(member) && field.length == 1 &&
                                  field.data != nullptr;
                if (fits) {
                    std::memcpy(&member, field.data, sizeof(T));
                }
                return fits;
            }
        }
        return false;
    }

    char const* namespace_;
    Fields<Op> fields_;
};

}  // namespace trtyard
