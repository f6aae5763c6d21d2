// An op as a custom op of ONNX Runtime, for its CUDA and its CPU provider.
//
// An Op has
//   kName, kInputs, kOutputs, visit, is_optional, problem()   as for TensorRT (plugin_op.h)
//   kInputTypes, kOutputTypes   ONNX Runtime's types; kElement is the type of features or scores
//   run(call)                   a status of trtyard_kernels.h; call.on_cpu() tells the provider
//
// ONNX Runtime takes one type for each tensor of a custom op, so an op is registered for each element type.
// It never uses the function body of a node whose op is registered, so each provider needs a kernel.
#pragma once

#define ORT_API_MANUAL_INIT
#include <onnxruntime_cxx_api.h>
#undef ORT_API_MANUAL_INIT

#include <cstdint>
#include <exception>
#include <limits>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/element.cuh"
#include "trtyard_kernels.h"

namespace trtyard {

using OrtType = ONNXTensorElementDataType;

constexpr OrtType kElement = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;

// ONNX Runtime's type for an element type of the kernels.
constexpr OrtType ort_type(int32_t dtype) {
    return dtype == TRTYARD_FLOAT32   ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT
           : dtype == TRTYARD_FLOAT16 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16
                                      : ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16;
}

constexpr char const* kCuda = "CUDAExecutionProvider";
constexpr char const* kCpu = "CPUExecutionProvider";

// The tensors of one call of a kernel, on the provider's device, and its stream.
class Call {
public:
    Call(OrtKernelContext* context, int32_t dtype, bool on_cpu)
        : context_(context), dtype_(dtype), on_cpu_(on_cpu) {}
    Call(Call const&) = delete;
    Call& operator=(Call const&) = delete;

    ~Call() {
        if (allocator_ != nullptr) {
            // The allocator gives it to later work of this stream only.
            allocator_->Free(allocator_, workspace_);
            Ort::GetApi().ReleaseAllocator(allocator_);
        }
    }

    int32_t dtype() const { return dtype_; }
    bool on_cpu() const { return on_cpu_; }
    void* stream() const { return context_.GetGPUComputeStream(); }
    void const* input(size_t index) const { return context_.GetInput(index).GetTensorRawData(); }

    // The dimensions of an input. Throws if there are not `rank` of them.
    std::vector<int32_t> dims(size_t index, size_t rank) const {
        const auto shape = context_.GetInput(index).GetTensorTypeAndShapeInfo().GetShape();
        if (shape.size() != rank) {
            throw std::invalid_argument(
                "input " + std::to_string(index) + " has " + std::to_string(shape.size()) +
                " dimensions instead of " + std::to_string(rank));
        }
        std::vector<int32_t> sizes;
        for (const int64_t size : shape) {
            if (size > std::numeric_limits<int32_t>::max()) {
                throw std::invalid_argument("a size of input " + std::to_string(index) +
                                            " does not fit into 32 bits");
            }
            sizes.push_back(static_cast<int32_t>(size));
        }
        return sizes;
    }

    void* output(size_t index, std::vector<int64_t> const& shape) const {
        return context_.GetOutput(index, shape).GetTensorMutableRawData();
    }

    // Scratch memory of the provider, for this call. Null for no bytes.
    void* workspace(size_t bytes) {
        if (bytes > 0) {
            const auto memory = context_.GetInput(0).GetTensorMemoryInfo();
            OrtMemoryInfo const* where = memory;
            OrtKernelContext* context = context_.GetOrtKernelContext();
            Ort::ThrowOnError(Ort::GetApi().KernelContext_GetScratchBuffer(
                context, where, bytes, &workspace_));
            Ort::ThrowOnError(
                Ort::GetApi().KernelContext_GetAllocator(context, where, &allocator_));
        }
        return workspace_;
    }

    // Calls function(i) for each i below count, in the provider's threads.
    template <typename Function>
    void parallel(int32_t count, Function const& function) const {
        struct Shared {
            Function const& function;
            std::mutex mutex;
            std::exception_ptr error;
        } shared{function, {}, nullptr};
        const auto one = [](void* data, size_t index) {
            auto& shared = *static_cast<Shared*>(data);
            try {
                shared.function(static_cast<int32_t>(index));
            } catch (...) {
                const std::lock_guard<std::mutex> held(shared.mutex);
                shared.error = std::current_exception();
            }
        };
        context_.ParallelFor(one, static_cast<size_t>(count), 0, &shared);
        if (shared.error) {
            std::rethrow_exception(shared.error);
        }
    }

private:
    Ort::KernelContext context_;
    int32_t dtype_;
    bool on_cpu_;
    void* workspace_ = nullptr;
    OrtAllocator* allocator_ = nullptr;
};

template <typename Function>
OrtStatusPtr as_status(char const* op, Function const& function) noexcept {
    try {
        function();
        return nullptr;
    } catch (std::exception const& error) {
        const std::string words = std::string(op) + ": " + error.what();
        return Ort::GetApi().CreateStatus(ORT_FAIL, words.c_str());
    }
}

inline void read_attribute(Ort::ConstKernelInfo info, char const* name, float& member) {
    member = info.GetAttribute<float>(name);
}

inline void read_attribute(Ort::ConstKernelInfo info, char const* name, int32_t& member) {
    const auto value = info.GetAttribute<int64_t>(name);
    member = static_cast<int32_t>(value);
    if (member != value) {
        throw std::invalid_argument(std::string(name) + " does not fit into 32 bits");
    }
}

template <typename Op, int32_t dtype, bool on_cpu>
class OrtKernel {
public:
    explicit OrtKernel(Ort::ConstKernelInfo info) : op_{} {
        Op::visit(op_, [&](char const* name, auto& member) {
            try {
                read_attribute(info, name, member);
            } catch (Ort::Exception const&) {
                if (!Op::is_optional(name)) {
                    throw std::invalid_argument(
                        std::string(name) + " is missing or of the wrong type");
                }
            }
        });
        if (op_.problem() != nullptr) {
            throw std::invalid_argument(op_.problem());
        }
    }

    OrtStatusPtr ComputeV2(OrtKernelContext* context) noexcept {
        return as_status(Op::kName, [&] {
            Call call(context, dtype, on_cpu);
            const int32_t status = op_.run(call);
            if (status != TRTYARD_OK) {
                throw std::runtime_error(trtyard_status_string(status));
            }
        });
    }

private:
    Op op_;
};

template <typename Op, int32_t dtype, bool on_cpu>
struct OrtOp
    : Ort::CustomOpBase<OrtOp<Op, dtype, on_cpu>, OrtKernel<Op, dtype, on_cpu>, true> {
    OrtStatusPtr CreateKernelV2(
        OrtApi const&, OrtKernelInfo const* info, void** kernel) const noexcept {
        return as_status(Op::kName, [&] {
            *kernel = new OrtKernel<Op, dtype, on_cpu>(Ort::ConstKernelInfo(info));
        });
    }

    char const* GetName() const { return Op::kName; }
    char const* GetExecutionProviderType() const { return on_cpu ? kCpu : kCuda; }
    size_t GetInputTypeCount() const { return Op::kInputs; }
    size_t GetOutputTypeCount() const { return Op::kOutputs; }
    OrtType GetInputType(size_t index) const { return filled(Op::kInputTypes[index]); }
    OrtType GetOutputType(size_t index) const { return filled(Op::kOutputTypes[index]); }

private:
    static OrtType filled(OrtType type) { return type == kElement ? ort_type(dtype) : type; }
};

template <typename Op, int32_t dtype>
void add_type(Ort::CustomOpDomain& domain) {
    static const OrtOp<Op, dtype, false> on_cuda;
    static const OrtOp<Op, dtype, true> on_cpu;
    domain.Add(&on_cuda);
    domain.Add(&on_cpu);
}

// Adds an op to a domain, for each element type and provider.
template <typename Op>
void add_to(Ort::CustomOpDomain& domain) {
    add_type<Op, TRTYARD_FLOAT32>(domain);
    add_type<Op, TRTYARD_FLOAT16>(domain);
    add_type<Op, TRTYARD_BFLOAT16>(domain);
}

}  // namespace trtyard
