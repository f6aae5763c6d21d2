// Just the declarations that plugins/*/*_v2.cpp ask for, so that the row's compiler has them compiled.
// Nothing here fits TensorRT's own binary interface: what is made of it is never loaded beside it.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "NvInferVersion.h"

namespace nvinfer1 {

enum class DataType : int32_t { kFLOAT, kHALF, kINT8, kINT32 };
enum class TensorFormat : int32_t { kLINEAR, kHWC8, kHWC };
enum class PluginFieldType : int32_t { kFLOAT32, kINT32, kCHAR };

struct Dims {
    int32_t nbDims;
    int32_t d[8];
};
struct IDimensionExpr;
struct DimsExprs {
    int32_t nbDims;
    IDimensionExpr const* d[8];
};
struct IExprBuilder {
    virtual IDimensionExpr const* constant(int32_t) noexcept = 0;
};
struct PluginTensorDesc {
    Dims dims;
    DataType type;
    TensorFormat format;
};
struct DynamicPluginTensorDesc {
    PluginTensorDesc desc;
};
struct PluginField {
    char const* name;
    void const* data;
    PluginFieldType type;
    int32_t length;
};
struct PluginFieldCollection {
    int32_t nbFields;
    PluginField const* fields;
};

struct IPluginV2DynamicExt {
    virtual char const* getPluginType() const noexcept = 0;
    virtual char const* getPluginVersion() const noexcept = 0;
    virtual int32_t getNbOutputs() const noexcept = 0;
    virtual int32_t initialize() noexcept = 0;
    virtual void terminate() noexcept = 0;
    virtual void destroy() noexcept = 0;
    virtual void setPluginNamespace(char const*) noexcept = 0;
    virtual char const* getPluginNamespace() const noexcept = 0;
    virtual IPluginV2DynamicExt* clone() const noexcept = 0;
    virtual size_t getSerializationSize() const noexcept = 0;
    virtual void serialize(void*) const noexcept = 0;
    virtual DataType getOutputDataType(int32_t, DataType const*, int32_t) const noexcept = 0;
    virtual DimsExprs getOutputDimensions(
        int32_t, DimsExprs const*, int32_t, IExprBuilder&) noexcept = 0;
    virtual bool supportsFormatCombination(
        int32_t, PluginTensorDesc const*, int32_t, int32_t) noexcept = 0;
    virtual void configurePlugin(
        DynamicPluginTensorDesc const*, int32_t, DynamicPluginTensorDesc const*,
        int32_t) noexcept = 0;
    virtual size_t getWorkspaceSize(
        PluginTensorDesc const*, int32_t, PluginTensorDesc const*, int32_t) const noexcept = 0;
    virtual int32_t enqueue(
        PluginTensorDesc const*, PluginTensorDesc const*, void const* const*, void* const*, void*,
        cudaStream_t) noexcept = 0;

protected:
    virtual ~IPluginV2DynamicExt() = default;
};

struct IPluginCreator {
    virtual char const* getPluginName() const noexcept = 0;
    virtual char const* getPluginVersion() const noexcept = 0;
    virtual char const* getPluginNamespace() const noexcept = 0;
    virtual void setPluginNamespace(char const*) noexcept = 0;
    virtual PluginFieldCollection const* getFieldNames() noexcept = 0;
    virtual IPluginV2DynamicExt* createPlugin(
        char const*, PluginFieldCollection const*) noexcept = 0;
    virtual IPluginV2DynamicExt* deserializePlugin(char const*, void const*, size_t) noexcept = 0;

protected:
    virtual ~IPluginCreator() = default;
};

struct IPluginRegistry {
    virtual bool registerCreator(IPluginCreator&, char const*) noexcept = 0;
};

}  // namespace nvinfer1
