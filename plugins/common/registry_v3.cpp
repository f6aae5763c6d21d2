// The functions that TensorRT looks up in a plugin library: the creators, and how it passes its logger.
//
// Each op is registered twice. For a node with a function body RTX 1.7's parser searches the empty
// namespace; TensorRT 10.10 and newer may search the namespace of the node's domain.
//
// A library built with the headers of TensorRT 10 also runs in 11 and RTX, but cannot log there: the layout
// of ILoggerFinder and ILogger changed in 11. Do not load a library built with those of 11 into 10.
#include <atomic>
#include <cstdio>

#include "common/plugin_v3.h"
#include "maskrcnn_roi_align/maskrcnn_roi_align_plugin.h"
#include "multiscale_roi_align/multiscale_roi_align_plugin.h"
#include "padded_nms/padded_nms_plugin.h"

static_assert(
    !trtyard::is_v2_release(NV_TENSORRT_MAJOR),
    "IPluginV3 needs TensorRT 10 or newer, or TensorRT for RTX");

namespace trtyard {
namespace {

constexpr size_t kLongestMessage = 256;

std::atomic<nvinfer1::ILoggerFinder*> logger_finder{nullptr};

}  // namespace

void log_error(char const* op, char const* what, char const* words) noexcept {
    nvinfer1::ILoggerFinder* finder = logger_finder.load();
    nvinfer1::ILogger* logger = finder == nullptr ? nullptr : finder->findLogger();
    if (logger != nullptr) {
        char message[kLongestMessage];
        (void)std::snprintf(message, sizeof(message), "%s: %s %s", op, what, words);
        logger->log(nvinfer1::ILogger::Severity::kERROR, message);
    }
}

}  // namespace trtyard

extern "C" TRTYARD_API void setLoggerFinder(nvinfer1::ILoggerFinder* finder) {
    trtyard::logger_finder = finder;
}

extern "C" TRTYARD_API nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count) {
    using namespace trtyard;
    static Creator<PaddedNmsPlugin> nms("");
    static Creator<PaddedNmsPlugin> nms_in_domain(kDomain);
    static Creator<MaskRcnnRoiAlignPlugin> roi_align("");
    static Creator<MaskRcnnRoiAlignPlugin> roi_align_in_domain(kDomain);
    static Creator<MultiscaleRoiAlignPlugin> multiscale("");
    static Creator<MultiscaleRoiAlignPlugin> multiscale_in_domain(kDomain);
    static nvinfer1::IPluginCreatorInterface* const creators[] = {
        &nms, &nms_in_domain, &roi_align, &roi_align_in_domain, &multiscale, &multiscale_in_domain};
    count = static_cast<int32_t>(sizeof(creators) / sizeof(creators[0]));
    return creators;
}
