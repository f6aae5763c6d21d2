"""Failures while weights are loaded into a model."""

from trtyard.known_failures.entry import KnownFailure

CHECKPOINTS: tuple[KnownFailure, ...] = (
    KnownFailure(
        name="checkpoint-of-other-model",
        patterns=(
            r"Error\(s\) in loading state_dict for \w+",
            r"size mismatch for [\w.]+: copying a param",
        ),
        cause="the checkpoint's names or shapes do not match the model: it has other classes, "
        "another size or variant, or a prefix (module., model.) before every name",
        hint="build the model as it was trained. print(*torch.load(FILE, weights_only=True)) "
        "shows the names. --weights FILE removes known prefixes",
        sources=("measured: torch 2.13.0",),
    ),
    KnownFailure(
        name="checkpoint-with-code",
        patterns=(r"Weights only load failed", r"WeightsUnpickler error"),
        cause="the checkpoint contains more than tensors: a whole model, or objects of its own "
        "classes. Such a file can run code, so torch.load refuses it by default from 2.6 on. An "
        "incomplete download gives the same error",
        hint="check the file's size first. Then save only the weights in the project that made "
        "the file: torch.save(model.state_dict(), FILE). If you trust the source: "
        "torch.load(FILE, weights_only=False), or torch.serialization.add_safe_globals",
        sources=(
            "https://github.com/tencent-ailab/SongGeneration/issues/63",
            "https://github.com/chflame163/ComfyUI_LayerStyle/issues/499",
            "measured: torch 2.13.0",
        ),
    ),
)
