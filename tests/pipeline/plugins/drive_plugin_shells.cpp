// Calls the creators of a V3 plugin library as TensorRT does, without TensorRT; prints JSON.
//
//     drive_plugin_shells LIBRARY
//
// For what TensorRT's Python bindings cannot reach: the fields a plugin serialises, the formats it
// takes, its workspace and what it logs.
#include <NvInferRuntime.h>
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

using namespace nvinfer1;

namespace {

class Log : public ILogger, public ILoggerFinder {
public:
    void log(Severity, char const* words) noexcept override { messages.push_back(words); }
    ILogger* findLogger() override { return this; }
    std::vector<std::string> messages;
};

struct Values {
    float floats[5];
    int32_t ints[6];
};
const Values kGiven{{0.5f, 0.0625f, 0.03125f, 0.0f, 0.0f}, {3, 1, 2, 0, 1, 4}};

// Fields for all names a creator asks for, each with another value of its type.
std::vector<PluginField> fields_for(IPluginCreatorV3One& creator) {
    std::vector<PluginField> fields;
    int floats = 0;
    int ints = 0;
    PluginFieldCollection const* names = creator.getFieldNames();
    for (int32_t i = 0; i < names->nbFields; ++i) {
        PluginField field = names->fields[i];
        field.length = 1;
        field.data = field.type == PluginFieldType::kFLOAT32
                         ? static_cast<void const*>(&kGiven.floats[floats++])
                         : static_cast<void const*>(&kGiven.ints[ints++]);
        fields.push_back(field);
    }
    return fields;
}

IPluginV3* create(
    IPluginCreatorV3One& creator, std::vector<PluginField> const& fields, TensorRTPhase phase) {
    const PluginFieldCollection given{static_cast<int32_t>(fields.size()), fields.data()};
    return creator.createPlugin("plugin", &given, phase);
}

IPluginV3OneRuntime& runtime(IPluginV3& plugin) {
    return *static_cast<IPluginV3OneRuntime*>(
        plugin.getCapabilityInterface(PluginCapabilityType::kRUNTIME));
}

IPluginV3OneBuild& building(IPluginV3& plugin) {
    return *static_cast<IPluginV3OneBuild*>(
        plugin.getCapabilityInterface(PluginCapabilityType::kBUILD));
}

std::string text(PluginFieldCollection const& fields) {
    std::string json;
    for (int32_t i = 0; i < fields.nbFields; ++i) {
        PluginField const& field = fields.fields[i];
        char value[64];
        if (field.type == PluginFieldType::kFLOAT32) {
            (void)std::snprintf(
                value, sizeof(value), "%.9g", *static_cast<float const*>(field.data));
        } else {
            (void)std::snprintf(value, sizeof(value), "%d", *static_cast<int32_t const*>(field.data));
        }
        json += (i == 0 ? "\"" : ", \"") + std::string(field.name) + "\": " + value;
    }
    return "{" + json + "}";
}

// One letter a tensor for each combination of types that the plugin takes, all linear.
std::string types_taken(IPluginV3& plugin, int32_t inputs, int32_t outputs) {
    const DataType types[] = {DataType::kFLOAT, DataType::kHALF, DataType::kBF16,
                              DataType::kINT32, DataType::kINT8, DataType::kINT64};
    const char letters[] = "fhbiIL";
    std::string taken;
    const int32_t count = inputs + outputs;
    int combinations = 1;
    for (int32_t i = 0; i < count; ++i) {
        combinations *= 6;
    }
    for (int code = 0; code < combinations; ++code) {
        std::vector<DynamicPluginTensorDesc> tensors(static_cast<size_t>(count));
        std::string word;
        bool good = true;
        int rest = code;
        for (int32_t i = 0; i < count; ++i, rest /= 6) {
            tensors[i].desc.type = types[rest % 6];
            tensors[i].desc.format = TensorFormat::kLINEAR;
            word += letters[rest % 6];
        }
        for (int32_t i = 0; i < count && good; ++i) {
            good = building(plugin).supportsFormatCombination(i, tensors.data(), inputs, outputs);
            tensors[i].desc.format = TensorFormat::kCHW32;
            good = good && !building(plugin).supportsFormatCombination(
                               i, tensors.data(), inputs, outputs);
            tensors[i].desc.format = TensorFormat::kLINEAR;
        }
        if (good) {
            taken += (taken.empty() ? "\"" : ", \"") + word + "\"";
        }
    }
    return "[" + taken + "]";
}

// A letter for the type, one for features' format and one for pooled's: Linear, hwc (C), hwc8 (8).
std::string formats_taken(IPluginV3& plugin, int32_t maps) {
    const DataType types[] = {DataType::kFLOAT, DataType::kHALF, DataType::kBF16};
    const TensorFormat formats[] = {TensorFormat::kLINEAR, TensorFormat::kHWC, TensorFormat::kHWC8,
                                    TensorFormat::kCHW32, TensorFormat::kHWC16};
    std::string taken;
    for (int code = 0; code < 75; ++code) {
        std::vector<DynamicPluginTensorDesc> tensors(static_cast<size_t>(maps) + 3);
        const int type = code / 25;
        for (int32_t i = 0; i < maps; ++i) {
            tensors[i].desc.type = types[type];
            tensors[i].desc.format = formats[code / 5 % 5];
        }
        tensors[maps].desc.type = DataType::kFLOAT;
        tensors[maps + 1].desc.type = DataType::kINT32;
        tensors[maps + 2].desc.type = types[type];
        tensors[maps + 2].desc.format = formats[code % 5];
        bool good = true;
        for (int32_t i = 0; i < maps + 3 && good; ++i) {
            good = building(plugin).supportsFormatCombination(i, tensors.data(), maps + 2, 1);
        }
        if (good) {
            taken += (taken.empty() ? "\"" : ", \"") + std::string(1, "fhb"[type]) +
                     "LC8xx"[code / 5 % 5] + "LC8xx"[code % 5] + "\"";
        }
    }
    return "[" + taken + "]";
}

size_t workspace(IPluginV3& plugin, int32_t maps) {
    std::vector<DynamicPluginTensorDesc> inputs(static_cast<size_t>(maps) + 2);
    if (maps == 0) {
        inputs[0].max = {4, {2, 3, 4000, 4}};
        inputs[1].max = {3, {2, 3, 4000}};
    } else {
        for (int32_t i = 0; i < maps; ++i) {
            inputs[i].max = {4, {2, 64, 50, 40}};
        }
        inputs[maps].max = {2, {300, 4}};
        inputs[maps + 1].max = {1, {300}};
    }
    return building(plugin).getWorkspaceSize(inputs.data(), maps + 2, nullptr, 0);
}

}  // namespace

int main(int argc, char** argv) {
    void* library = argc == 2 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : nullptr;
    if (library == nullptr) {
        std::fprintf(stderr, "%s\n", argc == 2 ? dlerror() : "give one library");
        return EXIT_FAILURE;
    }
    auto* get_creators = reinterpret_cast<IPluginCreatorInterface* const* (*)(int32_t&)>(
        dlsym(library, "getCreators"));
    auto* set_finder =
        reinterpret_cast<void (*)(ILoggerFinder*)>(dlsym(library, "setLoggerFinder"));
    if (get_creators == nullptr || set_finder == nullptr) {
        std::fprintf(stderr, "getCreators or setLoggerFinder is missing\n");
        return EXIT_FAILURE;
    }
    Log log;
    set_finder(&log);
    int32_t count = 0;
    IPluginCreatorInterface* const* creators = get_creators(count);
    std::printf("[");
    for (int32_t i = 0; i < count; ++i) {
        auto& creator = *static_cast<IPluginCreatorV3One*>(creators[i]);
        const std::string name = creator.getPluginName();
        const int32_t maps = name == "PaddedNMS" ? 0 : name == "MaskRcnnROIAlign" ? 1 : 5;
        std::vector<PluginField> fields = fields_for(creator);
        IPluginV3* built = create(creator, fields, TensorRTPhase::kBUILD);
        if (built == nullptr) {
            std::fprintf(stderr, "%s\n", log.messages.empty() ? "" : log.messages[0].c_str());
            return EXIT_FAILURE;
        }
        PluginFieldCollection const* stored = runtime(*built).getFieldsToSerialize();
        IPluginV3* loaded = creator.createPlugin("plugin", stored, TensorRTPhase::kRUNTIME);
        IPluginV3* attached = runtime(*loaded).attachToContext(nullptr);
        IPluginV3* cloned = attached->clone();
        delete built;  // nothing later may point into it
        delete loaded;
        delete attached;

        log.messages.clear();
        std::vector<PluginField> incomplete(fields.begin() + 1, fields.end());
        const bool refused = create(creator, incomplete, TensorRTPhase::kBUILD) == nullptr;
        std::string words;
        for (std::string const& message : log.messages) {
            words += message + "; ";
        }
        std::printf(
            "%s{\"name\": \"%s\", \"version\": \"%s\", \"namespace\": \"%s\", \"fields\": %s, "
            "\"types\": %s, \"formats\": %s, \"workspace\": %zu, \"refused\": %s, \"logged\": \"%s\"}",
            i == 0 ? "" : ", ", creator.getPluginName(), creator.getPluginVersion(),
            creator.getPluginNamespace(), text(*runtime(*cloned).getFieldsToSerialize()).c_str(),
            types_taken(*cloned, maps + 2, maps == 0 ? 2 : 1).c_str(),
            maps == 0 ? "[]" : formats_taken(*cloned, maps).c_str(), workspace(*cloned, maps),
            refused ? "true" : "false", words.c_str());
        delete cloned;
    }
    std::printf("]\n");
    set_finder(nullptr);
    return EXIT_SUCCESS;
}
