// Asks the creators of a V2 shell library for plugins, as a parser does with text attributes, and
// prints a line for each question. The registry that the library looks for is tests/gpu/plugin_harness.cpp.
//
//     drive_onnx_roi_align LIBRARY
#include <NvInferRuntime.h>
#include <NvInferVersion.h>
#include <dlfcn.h>

#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

using namespace nvinfer1;

extern "C" IPluginRegistry* getPluginRegistry() noexcept;

namespace {

int32_t const kSeven = 7, kSix = 6, kTwo = 2, kOne = 1, kZero = 0, kMinus = -1;
float const kScale = 0.0625f;

PluginField whole(char const* name, int32_t const& value) {
    return {name, &value, PluginFieldType::kINT32, 1};
}
PluginField text(char const* name, char const* value, bool with_nul = false) {
    const auto length = static_cast<int32_t>(std::strlen(value)) + (with_nul ? 1 : 0);
    return {name, value, PluginFieldType::kCHAR, length};
}

// What an engine would keep, in hexadecimal digits; or "refused".
std::string made(char const* op, std::vector<PluginField> const& fields) {
    IPluginCreator* creator = getPluginRegistry()->getPluginCreator(op, "1", "");
    if (creator == nullptr) {
        return "no creator";
    }
    PluginFieldCollection const given{static_cast<int32_t>(fields.size()), fields.data()};
    auto* plugin = static_cast<IPluginV2DynamicExt*>(creator->createPlugin("layer", &given));
    if (plugin == nullptr) {
        return "refused";
    }
    std::string bytes(plugin->getSerializationSize(), '\0');
    plugin->serialize(&bytes[0]);
    auto* again = creator->deserializePlugin("layer", bytes.data(), bytes.size());
    if (again == nullptr || std::strcmp(again->getPluginType(), op) != 0) {
        return "does not come back";
    }
    again->destroy();
    plugin->destroy();
    std::string digits;
    char two[3];
    for (unsigned char byte : bytes) {
        (void)std::snprintf(two, sizeof(two), "%02x", byte);
        digits += two;
    }
    return digits;
}

void say(char const* question, std::string const& answer) {
    (void)std::printf("%s: %s\n", question, answer.c_str());
}

}  // namespace

int main(int, char** arguments) {
    if (dlopen(arguments[1], RTLD_NOW) == nullptr) {
        (void)std::fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    char const* mode = "coordinate_transformation_mode";
    std::vector<PluginField> const sizes{
        whole("output_height", kSeven), whole("output_width", kSix), whole("sampling_ratio", kTwo),
        {"spatial_scale", &kScale, PluginFieldType::kFLOAT32, 1}};
    auto with = [&](std::vector<PluginField> more) {
        more.insert(more.begin(), sizes.begin(), sizes.end());
        return more;
    };
    for (int32_t const* aligned : {&kZero, &kOne}) {
        say(*aligned ? "own, aligned" : "own",
            made("MaskRcnnROIAlign", with({whole("aligned", *aligned)})));
    }
    say("own, max", made("MaskRcnnROIAlign", with({whole("aligned", kOne), whole("mode", kOne)})));
    say("output_half_pixel", made("RoiAlign", with({text("mode", "avg"), text(mode, "output_half_pixel")})));
    say("half_pixel", made("RoiAlign", with({text(mode, "half_pixel")})));
    say("half_pixel with NUL", made("RoiAlign", with({text("mode", "avg", true), text(mode, "half_pixel", true)})));
    say("defaults", made("RoiAlign", {text(mode, "half_pixel")}));
    say("mode left out", made("RoiAlign", sizes));
    say("max", made("RoiAlign", with({text("mode", "max"), text(mode, "half_pixel")})));
    say("unknown mode", made("RoiAlign", with({text(mode, "asymmetric")})));
    say("number as text", made("RoiAlign", {text("output_height", "7"), text(mode, "half_pixel")}));
    say("negative", made("RoiAlign", {whole("output_height", kMinus), text(mode, "half_pixel")}));
    return 0;
}
