// PaddedNMS on the CPU, for ONNX Runtime. Same arithmetic as the kernels.
#pragma once

#include <algorithm>
#include <vector>

#include "padded_nms/box.cuh"

namespace trtyard {
namespace padded_nms {

struct Candidate {
    float score;
    int index;  // class * boxes_per_class + box
    Box box;

    // Negative zero equals zero. There are no NaN.
    bool operator<(Candidate const& other) const {
        return score != other.score ? score > other.score : index < other.index;
    }
};

struct CpuSizes {
    int classes, box_classes, boxes, keep_top_k;
};

struct CpuRules {
    float iou_threshold, score_threshold, offset;
};

// Appends the survivors of one class, best first, at most keep_top_k.
template <typename T>
void keep_of_class(
    const T* boxes, const T* scores, int number, CpuSizes const& sizes, CpuRules const& rules,
    std::vector<Candidate>& kept) {
    std::vector<Candidate> candidates;
    for (int i = 0; i < sizes.boxes; ++i) {
        const float score = to_float(scores[i]);
        if (score > rules.score_threshold) {
            const Box box = load_box(boxes, i, rules.offset);
            candidates.push_back({score, number * sizes.boxes + i, box});
        }
    }
    std::sort(candidates.begin(), candidates.end());
    const size_t first = kept.size();
    for (Candidate const& one : candidates) {
        if (kept.size() - first == static_cast<size_t>(sizes.keep_top_k)) {
            break;
        }
        const bool suppressed =
            std::any_of(kept.begin() + first, kept.end(), [&](Candidate const& better) {
                return overlaps(better.box, one.box, rules.iou_threshold, rules.offset);
            });
        if (!suppressed) {
            kept.push_back(one);
        }
    }
}

// The outputs of one image: indices [keep_top_k] and the count.
template <typename T>
void run_image_on_cpu(
    const T* boxes, const T* scores, CpuSizes const& sizes, CpuRules const& rules, int* indices,
    int* count) {
    std::vector<Candidate> kept;
    for (int number = 0; number < sizes.classes; ++number) {
        const int64_t own = sizes.box_classes > 1 ? number : 0;
        keep_of_class(
            boxes + own * sizes.boxes * 4, scores + static_cast<int64_t>(number) * sizes.boxes,
            number, sizes, rules, kept);
    }
    std::sort(kept.begin(), kept.end());
    *count = static_cast<int>(std::min(kept.size(), static_cast<size_t>(sizes.keep_top_k)));
    std::fill(indices, indices + sizes.keep_top_k, -1);
    for (int i = 0; i < *count; ++i) {
        indices[i] = kept[static_cast<size_t>(i)].index;
    }
}

}  // namespace padded_nms
}  // namespace trtyard
