// Attributes of PaddedNMS, for the plugins of every runtime. The contract is in README.md.
#pragma once

#include <cstdint>

namespace trtyard {

struct PaddedNmsAttributes {
    static constexpr char const* kName = "PaddedNMS";
    static constexpr int32_t kInputs = 2;   // boxes [B, Cb, N, 4], scores [B, C, N]
    static constexpr int32_t kOutputs = 2;  // indices [B, K], count [B]

    float iou_threshold;
    float score_threshold;
    int32_t keep_top_k;
    int32_t box_offset;

    template <typename Self, typename Visitor>
    static void visit(Self& self, Visitor const& visitor) {
        visitor("iou_threshold", self.iou_threshold);
        visitor("score_threshold", self.score_threshold);
        visitor("keep_top_k", self.keep_top_k);
        visitor("box_offset", self.box_offset);
    }

    static bool is_optional(char const*) { return false; }

    char const* problem() const {
        if (keep_top_k < 0) {
            return "keep_top_k must not be negative";
        }
        return box_offset == 0 || box_offset == 1 ? nullptr : "box_offset must be 0 or 1";
    }
};

}  // namespace trtyard
