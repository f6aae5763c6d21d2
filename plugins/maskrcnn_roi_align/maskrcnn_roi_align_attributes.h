// Attributes of MaskRcnnROIAlign, for the plugins of every runtime. The contract is in README.md.
#pragma once

#include <cstdint>
#include <cstring>

#include "trtyard_kernels.h"

namespace trtyard {

struct MaskRcnnRoiAlignAttributes {
    static constexpr char const* kName = "MaskRcnnROIAlign";
    static constexpr int32_t kInputs = 3;   // features [B, C, H, W], rois [R, 4], batch_indices [R]
    static constexpr int32_t kOutputs = 1;  // pooled [R, C, output_height, output_width]

    int32_t output_height;
    int32_t output_width;
    float spatial_scale;
    int32_t sampling_ratio;
    int32_t aligned;
    int32_t mode;

    template <typename Self, typename Visitor>
    static void visit(Self& self, Visitor const& visitor) {
        visitor("output_height", self.output_height);
        visitor("output_width", self.output_width);
        visitor("spatial_scale", self.spatial_scale);
        visitor("sampling_ratio", self.sampling_ratio);
        visitor("aligned", self.aligned);
        visitor("mode", self.mode);
    }

    static bool is_optional(char const* name) { return std::strcmp(name, "mode") == 0; }

    char const* problem() const {
        if (output_height < 0 || output_width < 0 || sampling_ratio < 0) {
            return "output_height, output_width and sampling_ratio must not be negative";
        }
        if (mode != TRTYARD_AVERAGE && mode != TRTYARD_MAXIMUM) {
            return "mode must be 0 (average) or 1 (maximum)";
        }
        return aligned == 0 || aligned == 1 ? nullptr : "aligned must be 0 or 1";
    }
};

}  // namespace trtyard
