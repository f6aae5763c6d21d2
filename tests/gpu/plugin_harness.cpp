// Drives the plugins of a shell library as TensorRT does, on device memory that the caller has. The
// same C functions over both plugin APIs; compiled against the headers that the library was.
//
// V2: this file is also the registry that the library looks for. V3: the registry of the TensorRT (RTX)
// library that the caller names, or, with none, the library's own list of creators.
#include <NvInferRuntime.h>
#include <NvInferVersion.h>
#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#if NV_TENSORRT_MAJOR >= 5 && NV_TENSORRT_MAJOR < 10
#define HARNESS_V2 1
#else
#define HARNESS_V2 0
#endif
#define EXPORTED extern "C" __attribute__((visibility("default")))

using namespace nvinfer1;

namespace {

struct Tensor {
    int32_t type, rank;  // type: 0 float32, 1 float16, 2 bfloat16, 3 int32
    int32_t format;      // 0 linear, 1 channels last, 2 those padded to a multiple of 8
    int64_t size[8];
};

DataType type_of(int32_t code) {
    switch (code) {
        case 0: return DataType::kFLOAT;
        case 1: return DataType::kHALF;
#if !HARNESS_V2
        case 2: return DataType::kBF16;
#endif
        default: return DataType::kINT32;
    }
}

TensorFormat format_of(int32_t code) {
    switch (code) {
        case 0: return TensorFormat::kLINEAR;
#if !HARNESS_V2 || NV_TENSORRT_MAJOR >= 8
        case 1: return TensorFormat::kHWC;
#endif
        case 2: return TensorFormat::kHWC8;
        default: return TensorFormat::kCHW32;
    }
}

PluginTensorDesc desc_of(Tensor const& tensor) {
    PluginTensorDesc desc{};
    desc.type = type_of(tensor.type);
    desc.format = format_of(tensor.format);
    desc.scale = 1.0f;
    desc.dims.nbDims = tensor.rank;
    for (int32_t i = 0; i < tensor.rank; ++i) {
        desc.dims.d[i] = static_cast<int32_t>(tensor.size[i]);
    }
    return desc;
}

std::vector<PluginTensorDesc> descs_of(Tensor const* tensors, int32_t count) {
    std::vector<PluginTensorDesc> descs;
    for (int32_t i = 0; i < count; ++i) {
        descs.push_back(desc_of(tensors[i]));
    }
    return descs;
}

std::vector<DynamicPluginTensorDesc> ranges_of(Tensor const* tensors, int32_t count) {
    std::vector<DynamicPluginTensorDesc> ranges;
    for (int32_t i = 0; i < count; ++i) {
        DynamicPluginTensorDesc range{};
        range.desc = desc_of(tensors[i]);
        range.min = range.max = range.desc.dims;
        ranges.push_back(range);
    }
    return ranges;
}

std::string stored;  // the last plugin that was serialised, as an engine would keep it

#if HARNESS_V2

class Registry final : public IPluginRegistry {
public:
    bool registerCreator(IPluginCreator& creator, char const* name_space) noexcept override {
        creator.setPluginNamespace(name_space);
        for (IPluginCreator* known : creators_) {
            if (same(*known, creator.getPluginName(), creator.getPluginVersion(), creator.getPluginNamespace())) {
                return false;
            }
        }
        creators_.push_back(&creator);
        return true;
    }
    IPluginCreator* const* getPluginCreatorList(int32_t* count) const noexcept override {
        *count = static_cast<int32_t>(creators_.size());
        return creators_.data();
    }
    IPluginCreator* getPluginCreator(
        char const* name, char const* version, char const* name_space) noexcept override {
        for (IPluginCreator* creator : creators_) {
            if (same(*creator, name, version, name_space)) {
                return creator;
            }
        }
        return nullptr;
    }
    void setErrorRecorder(IErrorRecorder*) noexcept override {}
    IErrorRecorder* getErrorRecorder() const noexcept override { return nullptr; }
#if NV_TENSORRT_MAJOR >= 8
    bool deregisterCreator(IPluginCreator const&) noexcept override { return false; }
#endif
#if NV_TENSORRT_MAJOR > 8 || (NV_TENSORRT_MAJOR == 8 && NV_TENSORRT_MINOR >= 6)
    bool isParentSearchEnabled() const override { return false; }
    void setParentSearchEnabled(bool) override {}
    PluginLibraryHandle loadLibrary(char const*) noexcept override { return nullptr; }
    void deregisterLibrary(PluginLibraryHandle) noexcept override {}
#endif

private:
    static bool same(
        IPluginCreator const& creator, char const* name, char const* version,
        char const* name_space) {
        return std::strcmp(creator.getPluginName(), name) == 0 &&
               std::strcmp(creator.getPluginVersion(), version) == 0 &&
               std::strcmp(creator.getPluginNamespace(), name_space) == 0;
    }

    std::vector<IPluginCreator*> creators_;
};

Registry& registry() {
    static Registry only;
    return only;
}

using Creator = IPluginCreator;
using Plugin = IPluginV2DynamicExt;

Creator* find_creator(char const* name, char const* name_space) {
    return registry().getPluginCreator(name, "1", name_space);
}

// A size of a shape, known when the network is built.
#if NV_TENSORRT_MAJOR >= 8
class Size final : public IDimensionExpr, public apiv::VDimensionExpr {
public:
    explicit Size(int32_t value) : value_(value) { mImpl = this; }
    bool isConstant() const noexcept override { return true; }
    int32_t getConstantValue() const noexcept override { return value_; }

private:
    int32_t value_;
};
#else
class Size final : public IDimensionExpr {
public:
    explicit Size(int32_t value) : value_(value) {}
    bool isConstant() const override { return true; }
    int32_t getConstantValue() const override { return value_; }

private:
    int32_t value_;
};
#endif

class Sizes {
public:
    IDimensionExpr const* of(int64_t value) {
        all_.push_back(std::make_unique<Size>(static_cast<int32_t>(value)));
        return all_.back().get();
    }

private:
    std::vector<std::unique_ptr<Size>> all_;
};

#if NV_TENSORRT_MAJOR >= 8
class Builder final : public IExprBuilder, public apiv::VExprBuilder {
public:
    Builder() { mImpl = this; }
#else
class Builder final : public IExprBuilder {
public:
#endif
    IDimensionExpr const* constant(int32_t value) override { return sizes.of(value); }
    IDimensionExpr const* operation(
        DimensionOperation, IDimensionExpr const&, IDimensionExpr const&) override {
        return nullptr;
    }
    Sizes sizes;
};

#else  // V3

IPluginCreatorInterface* const* creators = nullptr;
int32_t creator_count = 0;
IPluginRegistry* registry = nullptr;

using Creator = IPluginCreatorV3One;
using Plugin = IPluginV3;

Creator* find_creator(char const* name, char const* name_space) {
    if (registry != nullptr) {
        return static_cast<Creator*>(registry->getCreator(name, "1", name_space));
    }
    for (int32_t i = 0; i < creator_count; ++i) {
        auto* creator = static_cast<Creator*>(creators[i]);
        if (std::strcmp(creator->getPluginName(), name) == 0 &&
            std::strcmp(creator->getPluginNamespace(), name_space) == 0) {
            return creator;
        }
    }
    return nullptr;
}

template <typename Capability>
Capability& capability(Plugin* plugin, PluginCapabilityType type) {
    return *static_cast<Capability*>(plugin->getCapabilityInterface(type));
}

IPluginV3OneBuild& building(Plugin* plugin) {
    return capability<IPluginV3OneBuild>(plugin, PluginCapabilityType::kBUILD);
}

IPluginV3OneRuntime& running(Plugin* plugin) {
    return capability<IPluginV3OneRuntime>(plugin, PluginCapabilityType::kRUNTIME);
}

#endif

// The fields of a V3 plugin as bytes: name, type, value of four bytes.
struct StoredField {
    char name[32];
    int32_t type;
    char value[4];
};

}  // namespace

#if HARNESS_V2
EXPORTED IPluginRegistry* getPluginRegistry() noexcept { return &registry(); }
#endif

EXPORTED int32_t harness_is_v2() { return HARNESS_V2; }

// Whether the release has float32 with its channels last.
EXPORTED int32_t harness_has_hwc() { return format_of(1) != format_of(-1); }

// Loads the plugins, through the registry of `tensorrt` where that is not null. Null, or why not.
EXPORTED char const* harness_load(char const* plugins, char const* tensorrt) {
#if HARNESS_V2
    (void)tensorrt;
    return dlopen(plugins, RTLD_NOW | RTLD_LOCAL) == nullptr ? dlerror() : nullptr;
#else
    if (tensorrt != nullptr) {
        void* library = dlopen(tensorrt, RTLD_NOW | RTLD_GLOBAL);
        if (library == nullptr) {
            return dlerror();
        }
        void* function = dlsym(library, "getPluginRegistry");
        if (function == nullptr) {
            return dlerror();
        }
        registry = reinterpret_cast<IPluginRegistry* (*)()>(function)();
        return registry->loadLibrary(plugins) == nullptr ? "the registry did not load it" : nullptr;
    }
    void* library = dlopen(plugins, RTLD_NOW | RTLD_LOCAL);
    void* function = library == nullptr ? nullptr : dlsym(library, "getCreators");
    if (function == nullptr) {
        return dlerror();
    }
    creators = reinterpret_cast<IPluginCreatorInterface* const* (*)(int32_t&)>(function)(creator_count);
    return nullptr;
#endif
}

// A plugin as the parser makes it. `kinds` has a letter for each field: i for an int32_t, f for a float, s for
// a text that ends with a zero. Null if the creator is unknown or refuses.
EXPORTED void* harness_create(
    char const* name, char const* name_space, char const* const* names, void const* const* values,
    char const* kinds, int32_t count) {
    Creator* creator = find_creator(name, name_space);
    if (creator == nullptr) {
        return nullptr;
    }
    std::vector<PluginField> fields;
    for (int32_t i = 0; i < count; ++i) {
        const auto type = kinds[i] == 'i'   ? PluginFieldType::kINT32
                          : kinds[i] == 'f' ? PluginFieldType::kFLOAT32
                                            : PluginFieldType::kCHAR;
        const bool is_text = type == PluginFieldType::kCHAR;
        const size_t length = is_text ? std::strlen(static_cast<char const*>(values[i])) : 1;
        fields.push_back(PluginField(names[i], values[i], type, static_cast<int32_t>(length)));
    }
    PluginFieldCollection given{count, fields.data()};
#if HARNESS_V2
    return creator->createPlugin("node", &given);
#else
    return creator->createPlugin("node", &given, TensorRTPhase::kBUILD);
#endif
}

// Asks what the builder asks; bytes of workspace, or a negative number for what is wrong.
EXPORTED int64_t harness_configure(
    void* object, Tensor const* tensors, int32_t inputs, int32_t outputs) {
    auto* plugin = static_cast<Plugin*>(object);
    auto descs = descs_of(tensors, inputs + outputs);
    auto ranges = ranges_of(tensors, inputs + outputs);
    std::vector<DataType> types;
    for (int32_t i = 0; i < inputs; ++i) {
        types.push_back(descs[i].type);
    }
#if HARNESS_V2
    if (plugin->getNbOutputs() != outputs) {
        return -1;
    }
    for (int32_t i = 0; i < inputs + outputs; ++i) {
        if (!plugin->supportsFormatCombination(i, descs.data(), inputs, outputs)) {
            return -2;
        }
    }
    Builder builder;
    std::vector<DimsExprs> shapes;
    for (int32_t i = 0; i < inputs; ++i) {
        DimsExprs shape{};
        shape.nbDims = tensors[i].rank;
        for (int32_t k = 0; k < tensors[i].rank; ++k) {
            shape.d[k] = builder.sizes.of(tensors[i].size[k]);
        }
        shapes.push_back(shape);
    }
    for (int32_t i = 0; i < outputs; ++i) {
        Tensor const& expected = tensors[inputs + i];
        if (plugin->getOutputDataType(i, types.data(), inputs) != type_of(expected.type)) {
            return -3;
        }
        const DimsExprs shape = plugin->getOutputDimensions(i, shapes.data(), inputs, builder);
        if (shape.nbDims != expected.rank) {
            return -4;
        }
        for (int32_t k = 0; k < expected.rank; ++k) {
            if (shape.d[k]->getConstantValue() != expected.size[k]) {
                return -5;
            }
        }
    }
    plugin->configurePlugin(ranges.data(), inputs, ranges.data() + inputs, outputs);
    return static_cast<int64_t>(
        plugin->getWorkspaceSize(descs.data(), inputs, descs.data() + inputs, outputs));
#else
    IPluginV3OneBuild& build = building(plugin);
    if (build.getNbOutputs() != outputs) {
        return -1;
    }
    for (int32_t i = 0; i < inputs + outputs; ++i) {
        if (!build.supportsFormatCombination(i, ranges.data(), inputs, outputs)) {
            return -2;
        }
    }
    std::vector<DataType> found(static_cast<size_t>(outputs));
    if (build.getOutputDataTypes(found.data(), outputs, types.data(), inputs) != 0) {
        return -3;
    }
    for (int32_t i = 0; i < outputs; ++i) {
        if (found[i] != descs[inputs + i].type) {
            return -3;
        }
    }
    if (build.configurePlugin(ranges.data(), inputs, ranges.data() + inputs, outputs) != 0) {
        return -6;
    }
    return static_cast<int64_t>(
        build.getWorkspaceSize(ranges.data(), inputs, ranges.data() + inputs, outputs));
#endif
}

// A copy for one execution context.
EXPORTED void* harness_attach(void* object) {
#if HARNESS_V2
    auto* copy = static_cast<Plugin*>(object)->clone();
    return copy != nullptr && copy->initialize() == 0 ? copy : nullptr;
#else
    return running(static_cast<Plugin*>(object)).attachToContext(nullptr);
#endif
}

EXPORTED int32_t harness_enqueue(
    void* object, Tensor const* tensors, int32_t inputs, int32_t outputs, void const* const* in,
    void* const* out, void* workspace, void* stream) {
    auto descs = descs_of(tensors, inputs + outputs);
    PluginTensorDesc const* behind = descs.data() + inputs;
    auto* plugin = static_cast<Plugin*>(object);
#if HARNESS_V2
    return plugin->enqueue(
        descs.data(), behind, in, out, workspace, static_cast<cudaStream_t>(stream));
#else
    IPluginV3OneRuntime& runtime = running(plugin);
    const int32_t status = runtime.onShapeChange(descs.data(), inputs, behind, outputs);
    return status != 0 ? status
                       : runtime.enqueue(
                             descs.data(), behind, in, out, workspace,
                             static_cast<cudaStream_t>(stream));
#endif
}

// Keeps the plugin's bytes; how many there are.
EXPORTED int64_t harness_store(void* object) {
#if HARNESS_V2
    auto* plugin = static_cast<Plugin*>(object);
    stored.assign(plugin->getSerializationSize() + 1, 'x');
    plugin->serialize(&stored[0]);
    const bool overrun = stored.back() != 'x';
    stored.pop_back();
    return overrun ? -1 : static_cast<int64_t>(stored.size());
#else
    stored.clear();
    PluginFieldCollection const* fields = running(static_cast<Plugin*>(object)).getFieldsToSerialize();
    for (int32_t i = 0; i < fields->nbFields; ++i) {
        PluginField const& field = fields->fields[i];
        StoredField copy{};
        (void)std::snprintf(copy.name, sizeof(copy.name), "%s", field.name);
        copy.type = static_cast<int32_t>(field.type);
        std::memcpy(copy.value, field.data, sizeof(copy.value));
        stored.append(reinterpret_cast<char const*>(&copy), sizeof(copy));
    }
    return static_cast<int64_t>(stored.size());
#endif
}

// A plugin from the bytes, less the last `missing` of them. Null if it is refused.
EXPORTED void* harness_restore(char const* name, char const* name_space, int64_t missing) {
    Creator* creator = find_creator(name, name_space);
    const size_t length = stored.size() - static_cast<size_t>(missing);
    if (creator == nullptr) {
        return nullptr;
    }
#if HARNESS_V2
    return creator->deserializePlugin("node", stored.data(), length);
#else
    std::vector<StoredField> copies(length / sizeof(StoredField));
    std::memcpy(copies.data(), stored.data(), copies.size() * sizeof(StoredField));
    std::vector<PluginField> fields;
    for (StoredField const& copy : copies) {
        fields.push_back(PluginField(
            copy.name, copy.value, static_cast<PluginFieldType>(copy.type), 1));
    }
    PluginFieldCollection given{static_cast<int32_t>(fields.size()), fields.data()};
    return creator->createPlugin("node", &given, TensorRTPhase::kRUNTIME);
#endif
}

EXPORTED void harness_destroy(void* object) {
#if HARNESS_V2
    static_cast<Plugin*>(object)->terminate();
    static_cast<Plugin*>(object)->destroy();
#else
    delete static_cast<Plugin*>(object);
#endif
}
