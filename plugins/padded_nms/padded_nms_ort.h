// PaddedNMS as a custom op of ONNX Runtime.
#pragma once

#include "common/ort_op.h"
#include "padded_nms/padded_nms_attributes.h"
#include "padded_nms/padded_nms_cpu.h"

namespace trtyard {

struct PaddedNmsOrt : PaddedNmsAttributes {
    static constexpr OrtType kInputTypes[] = {kElement, kElement};
    static constexpr OrtType kOutputTypes[] = {
        ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32};

    int32_t run(Call& call) const {
        const auto boxes = call.dims(0, 4);
        const auto scores = call.dims(1, 3);
        if (boxes[0] != scores[0] || boxes[2] != scores[2] || boxes[3] != 4) {
            throw std::invalid_argument("boxes must be [B, Cb, N, 4] and scores [B, C, N]");
        }
        const int32_t box_classes = boxes[1];
        if (box_classes != 1 && box_classes != scores[1]) {
            throw std::invalid_argument("boxes must have one class, or those of the scores");
        }
        auto* indices = static_cast<int32_t*>(call.output(0, {scores[0], keep_top_k}));
        auto* count = static_cast<int32_t*>(call.output(1, {scores[0]}));
        if (call.on_cpu()) {
            return with_element_type(call.dtype(), [&](auto element) {
                return run_on_cpu<decltype(element)>(call, scores, box_classes, indices, count);
            });
        }
        const size_t bytes =
            trtyard_padded_nms_workspace(scores[0], scores[1], scores[2], keep_top_k);
        return trtyard_padded_nms(
            call.input(0), call.input(1), indices, count, scores[0], scores[1], box_classes,
            scores[2], keep_top_k, iou_threshold, score_threshold, box_offset, call.dtype(),
            call.workspace(bytes), bytes, call.stream());
    }

private:
    template <typename T>
    int32_t run_on_cpu(
        Call const& call, std::vector<int32_t> const& scores, int32_t box_classes,
        int32_t* indices, int32_t* count) const {
        const padded_nms::CpuSizes sizes{scores[1], box_classes, scores[2], keep_top_k};
        const padded_nms::CpuRules rules{
            iou_threshold, score_threshold, static_cast<float>(box_offset)};
        auto const* boxes = static_cast<T const*>(call.input(0));
        auto const* values = static_cast<T const*>(call.input(1));
        call.parallel(scores[0], [&](int64_t image) {
            padded_nms::run_image_on_cpu(
                boxes + image * box_classes * scores[2] * 4, values + image * scores[1] * scores[2],
                sizes, rules, indices + image * keep_top_k, count + image);
        });
        return TRTYARD_OK;
    }
};

}  // namespace trtyard
