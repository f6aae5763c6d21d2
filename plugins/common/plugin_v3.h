// An op (plugin_op.h) as a V3 plugin and its creator: TensorRT 10, 11 and TensorRT for RTX.
#pragma once

#include "common/plugin_op.h"

namespace trtyard {

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
        return op_.supports(position, desc);
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
        nvinfer1::PluginTensorDesc const* descs, nvinfer1::PluginTensorDesc const* output_descs,
        void const* const* inputs, void* const* outputs, void* workspace,
        cudaStream_t stream) noexcept override {
        const size_t bytes =
            op_.workspace([&](int32_t i) -> auto const& { return descs[i].dims; });
        const int32_t status = op_.enqueue(
            descs, output_descs, inputs, outputs, workspace, bytes, stream);
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

    nvinfer1::IPluginV3* createPlugin(
        char const*, PluginFieldCollection const* given,
        nvinfer1::TensorRTPhase) noexcept override {
        Op op{};
        return read_op(given, op) ? new (std::nothrow) Plugin<Op>(op, namespace_) : nullptr;
    }

private:
    char const* namespace_;
    Fields<Op> fields_;
};

}  // namespace trtyard
