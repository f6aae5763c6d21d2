// Attributes of MultiscaleRoIAlign, for the plugins of every runtime. The contract is in README.md.
#pragma once

#include <cstdint>
#include <cstring>

namespace trtyard {

struct MultiscaleRoiAlignAttributes {
    static constexpr char const* kName = "MultiscaleRoIAlign";
    static constexpr int32_t kMaps = 5;
    static constexpr int32_t kRois = kMaps;
    static constexpr int32_t kBatchIndices = kMaps + 1;
    static constexpr int32_t kInputs = kMaps + 2;  // maps [B, C, H, W], rois [R, 4], batch_indices [R]
    static constexpr int32_t kOutputs = 1;  // pooled [R, C, output_height, output_width]

    int32_t output_height;
    int32_t output_width;
    int32_t sampling_ratio;
    int32_t aligned;
    int32_t canonical_scale;
    int32_t canonical_level;
    float scales[kMaps];  // 0: there is no such map

    template <typename Self, typename Visitor>
    static void visit(Self& self, Visitor const& visitor) {
        visitor("output_height", self.output_height);
        visitor("output_width", self.output_width);
        visitor("sampling_ratio", self.sampling_ratio);
        visitor("aligned", self.aligned);
        visitor("canonical_scale", self.canonical_scale);
        visitor("canonical_level", self.canonical_level);
        visitor("scale_0", self.scales[0]);
        visitor("scale_1", self.scales[1]);
        visitor("scale_2", self.scales[2]);
        visitor("scale_3", self.scales[3]);
        visitor("scale_4", self.scales[4]);
    }

    static bool is_optional(char const* name) {
        return std::strcmp(name, "scale_2") == 0 || std::strcmp(name, "scale_3") == 0 ||
               std::strcmp(name, "scale_4") == 0;
    }

    int32_t levels() const {
        int32_t count = 0;
        while (count < kMaps && scales[count] != 0.0f) {
            ++count;
        }
        return count;
    }

    char const* problem() const {
        if (output_height < 0 || output_width < 0 || sampling_ratio < 0) {
            return "output_height, output_width and sampling_ratio must not be negative";
        }
        if (canonical_scale < 1) {
            return "canonical_scale must be positive";
        }
        int32_t const count = levels();
        bool good = count >= 2;
        for (int32_t i = 0; i < kMaps; ++i) {
            bool const positive = scales[i] > 0.0f && scales[i] - scales[i] == 0.0f;
            good = good && (i < count ? positive : scales[i] == 0.0f);
        }
        if (!good || scales[0] < scales[count - 1]) {
            return "the scales must be two to five positive numbers, the finest map's first";
        }
        return aligned == 0 || aligned == 1 ? nullptr : "aligned must be 0 or 1";
    }
};

}  // namespace trtyard
