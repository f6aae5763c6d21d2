// Registers the creators with the TensorRT (7.0 to 8.6) of the process when the library is loaded:
//
//     ctypes.CDLL("libtrtyard_plugins_v2.so")    after import tensorrt
//     trtexec --plugins=libtrtyard_plugins_v2.so
//
// The library does not link libnvinfer but finds it in the process. Without it, loading does nothing.
#include <dlfcn.h>

#include <cstdio>

#include "common/plugin_v2.h"
#include "maskrcnn_roi_align/maskrcnn_roi_align_plugin.h"
#include "maskrcnn_roi_align/onnx_roi_align_v2.h"
#include "multiscale_roi_align/multiscale_roi_align_plugin.h"
#include "padded_nms/padded_nms_plugin.h"

static_assert(
    trtyard::is_v2_release(NV_TENSORRT_MAJOR), "TensorRT 10 and newer take IPluginV3: registry_v3.cpp");

#define TRTYARD_TEXT_OF(NUMBER) #NUMBER
#define TRTYARD_TEXT(NUMBER) TRTYARD_TEXT_OF(NUMBER)

namespace trtyard {
namespace {

// Null in a process without TensorRT. A Python module loads its libraries with local symbols, so the
// loaded library itself is searched if the symbol is not global.
nvinfer1::IPluginRegistry* find_registry() {
    void* function = dlsym(RTLD_DEFAULT, "getPluginRegistry");
    if (function == nullptr) {
        void* library =
            dlopen("libnvinfer.so." TRTYARD_TEXT(NV_TENSORRT_MAJOR), RTLD_LAZY | RTLD_NOLOAD);
        function = library == nullptr ? nullptr : dlsym(library, "getPluginRegistry");
    }
    return function == nullptr
               ? nullptr
               : reinterpret_cast<nvinfer1::IPluginRegistry* (*)()>(function)();
}

struct Registration {
    CreatorV2<PaddedNmsPlugin> nms{""}, nms_in_domain{kDomain};
    CreatorV2<MaskRcnnRoiAlignPlugin> roi_align{""}, roi_align_in_domain{kDomain};
    CreatorV2<MultiscaleRoiAlignPlugin> multiscale{""}, multiscale_in_domain{kDomain};
    OnnxRoiAlignCreator onnx_roi_align;

    Registration() {
        nvinfer1::IPluginRegistry* registry = find_registry();
        if (registry != nullptr) {
            (void)registry->registerCreator(nms, "");
            (void)registry->registerCreator(nms_in_domain, kDomain);
            (void)registry->registerCreator(roi_align, "");
            (void)registry->registerCreator(roi_align_in_domain, kDomain);
            (void)registry->registerCreator(multiscale, "");
            (void)registry->registerCreator(multiscale_in_domain, kDomain);
            (void)registry->registerCreator(onnx_roi_align, "");
        }
    }
};

Registration registration;

}  // namespace

// The V2 API gives plugins no logger.
void log_error(char const* op, char const* what, char const* words) noexcept {
    (void)std::fprintf(stderr, "%s: %s %s\n", op, what, words);
}

}  // namespace trtyard
