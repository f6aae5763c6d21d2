// An op (plugin_op.h) as a V2 plugin and its creator: TensorRT 7.0 to 8.6.
//
// Everything is noexcept: 8.0 and newer require it, 7 allows it. An engine stores the bytes of the
// attributes in the order of Op::visit.
#pragma once

#include "common/plugin_op.h"

namespace trtyard {

template <typename Op>
class PluginV2 final : public nvinfer1::IPluginV2DynamicExt {
public:
    PluginV2(Op const& op, char const* name_space) noexcept : op_(op), namespace_(name_space) {}

    char const* getPluginType() const noexcept override { return Op::kName; }
    char const* getPluginVersion() const noexcept override { return kPluginVersion; }
    int32_t getNbOutputs() const noexcept override { return Op::kOutputs; }
    int32_t initialize() noexcept override { return 0; }
    void terminate() noexcept override {}
    void destroy() noexcept override { delete this; }

    // The namespace is one of the creators' static names, so it is not copied.
    void setPluginNamespace(char const* name_space) noexcept override { namespace_ = name_space; }
    char const* getPluginNamespace() const noexcept override { return namespace_; }

    nvinfer1::IPluginV2DynamicExt* clone() const noexcept override {
        return new (std::nothrow) PluginV2(op_, namespace_);
    }

    size_t getSerializationSize() const noexcept override { return size(); }

    void serialize(void* buffer) const noexcept override {
        char* target = static_cast<char*>(buffer);
        Op::visit(op_, [&](char const*, auto const& member) {
            std::memcpy(target, &member, sizeof(member));
            target += sizeof(member);
        });
    }

    // Size of the attributes in an engine. An engine from before an attribute was added does not have it.
    static size_t size(bool optional = true) noexcept {
        size_t bytes = 0;
        Op op{};
        Op::visit(op, [&](char const* name, auto const& member) {
            bytes += optional || !Op::is_optional(name) ? sizeof(member) : 0;
        });
        return bytes;
    }

    DataType getOutputDataType(
        int32_t index, DataType const* inputs, int32_t count) const noexcept override {
        DataType outputs[Op::kOutputs]{};
        if (count != Op::kInputs || index < 0 || index >= Op::kOutputs) {
            fail("wrong number of inputs or outputs");
            return DataType::kFLOAT;
        }
        op_.output_types(inputs, outputs);
        return outputs[index];
    }

    nvinfer1::DimsExprs getOutputDimensions(
        int32_t index, nvinfer1::DimsExprs const* inputs, int32_t count,
        nvinfer1::IExprBuilder& builder) noexcept override {
        nvinfer1::DimsExprs outputs[Op::kOutputs]{};
        char const* problem = count == Op::kInputs && index >= 0 && index < Op::kOutputs
                                  ? op_.output_shapes(inputs, outputs, builder)
                                  : "wrong number of inputs or outputs";
        if (problem != nullptr) {
            fail(problem);
            nvinfer1::DimsExprs none{};
            none.nbDims = -1;  // TensorRT refuses the network
            return none;
        }
        return outputs[index];
    }

    bool supportsFormatCombination(
        int32_t position, nvinfer1::PluginTensorDesc const* tensors, int32_t,
        int32_t) noexcept override {
        const auto desc = [&](int32_t i) -> auto const& { return tensors[i]; };
        return op_.supports(position, desc);
    }

    void configurePlugin(
        nvinfer1::DynamicPluginTensorDesc const*, int32_t,
        nvinfer1::DynamicPluginTensorDesc const*, int32_t) noexcept override {}

    size_t getWorkspaceSize(
        nvinfer1::PluginTensorDesc const* inputs, int32_t, nvinfer1::PluginTensorDesc const*,
        int32_t) const noexcept override {
        return op_.workspace([&](int32_t i) -> auto const& { return inputs[i].dims; });
    }

    int32_t enqueue(
        nvinfer1::PluginTensorDesc const* descs, nvinfer1::PluginTensorDesc const* output_descs,
        void const* const* inputs, void* const* outputs, void* workspace,
        cudaStream_t stream) noexcept override {
        const size_t bytes =
            op_.workspace([&](int32_t i) -> auto const& { return descs[i].dims; });
        const int32_t status = op_.enqueue(
            descs, output_descs, inputs, outputs, workspace, bytes, stream);
        if (status != TRTYARD_OK) {
            fail(trtyard_status_string(status));
        }
        return status == TRTYARD_OK ? 0 : kFailed;
    }

private:
    static void fail(char const* words) noexcept { log_error(Op::kName, "failed:", words); }

    Op op_;
    char const* namespace_;
};

template <typename Op>
class CreatorV2 final : public nvinfer1::IPluginCreator {
public:
    explicit CreatorV2(char const* name_space) noexcept : namespace_(name_space) {}

    char const* getPluginName() const noexcept override { return Op::kName; }
    char const* getPluginVersion() const noexcept override { return kPluginVersion; }
    char const* getPluginNamespace() const noexcept override { return namespace_; }

    // The registry may set the namespace, but the creator already has one.
    void setPluginNamespace(char const*) noexcept override {}

    PluginFieldCollection const* getFieldNames() noexcept override {
        return fields_.of(Op{}, false);
    }

    nvinfer1::IPluginV2DynamicExt* createPlugin(
        char const*, PluginFieldCollection const* given) noexcept override {
        Op op{};
        return read_op(given, op) ? new (std::nothrow) PluginV2<Op>(op, namespace_) : nullptr;
    }

    nvinfer1::IPluginV2DynamicExt* deserializePlugin(
        char const*, void const* data, size_t length) noexcept override {
        const bool fits = length == PluginV2<Op>::size() || length == PluginV2<Op>::size(false);
        if (data == nullptr || !fits) {
            log_error(Op::kName, "the engine holds", "a plugin of another size");
            return nullptr;
        }
        Op op{};
        char const* source = static_cast<char const*>(data);
        char const* end = source + length;
        Op::visit(op, [&](char const*, auto& member) {
            if (source < end) {
                std::memcpy(&member, source, sizeof(member));
                source += sizeof(member);
            }
        });
        return check_op(op) ? new (std::nothrow) PluginV2<Op>(op, namespace_) : nullptr;
    }

private:
    char const* namespace_;
    Fields<Op> fields_;
};

}  // namespace trtyard
