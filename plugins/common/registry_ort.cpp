// The function that ONNX Runtime looks up in a library of custom ops.
//
// The library asks for the API version of its headers. An older ONNX Runtime refuses it, a newer one has it.
#include "common/ort_op.h"
#include "maskrcnn_roi_align/maskrcnn_roi_align_ort.h"
#include "multiscale_roi_align/multiscale_roi_align_ort.h"
#include "padded_nms/padded_nms_ort.h"

namespace {

constexpr char const* kDomain = "trtyard";

}  // namespace

extern "C" TRTYARD_API OrtStatus* RegisterCustomOps(
    OrtSessionOptions* options, OrtApiBase const* base) {
    OrtApi const* api = base->GetApi(ORT_API_VERSION);
    if (api == nullptr) {
        const std::string words = std::string("trtyard's kernels need ONNX Runtime 1.") +
                                  std::to_string(ORT_API_VERSION) + " or newer, not " +
                                  base->GetVersionString();
        return base->GetApi(1)->CreateStatus(ORT_FAIL, words.c_str());
    }
    Ort::InitApi(api);
    return trtyard::as_status("trtyard", [&] {
        static Ort::CustomOpDomain domain = [] {
            Ort::CustomOpDomain made(kDomain);
            trtyard::add_to<trtyard::PaddedNmsOrt>(made);
            trtyard::add_to<trtyard::MaskRcnnRoiAlignOrt>(made);
            trtyard::add_to<trtyard::MultiscaleRoiAlignOrt>(made);
            return made;
        }();
        Ort::UnownedSessionOptions(options).Add(domain);
    });
}
