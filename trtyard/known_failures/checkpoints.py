"""What goes wrong when weights are loaded into a model."""

from trtyard.known_failures.entry import KnownFailure

CHECKPOINTS: tuple[KnownFailure, ...] = (
    KnownFailure(
        name="checkpoint-of-other-model",
        patterns=(
            r"Error\(s\) in loading state_dict for \w+",
            r"size mismatch for [\w.]+: copying a param",
        ),
        cause="the checkpoint's names or shapes are not those of the model that is built: other "
        "classes, another size or variant, or a prefix (module., model.) before every name",
        hint="build the model as it was trained; print(*torch.load(FILE, weights_only=True)) shows "
        "the names. --weights FILE takes known prefixes away",
        sources=("measured: torch 2.13.0",),
    ),
    KnownFailure(
        name="checkpoint-with-code",
        patterns=(r"Weights only load failed", r"WeightsUnpickler error"),
        cause="the checkpoint holds more than tensors: a whole model or objects of its own "
        "classes. torch.load refuses that from 2.6 on unless told otherwise, because such a file "
        "can run code. An incomplete download gives the same error",
        hint="compare the file's size first. Where it was made, save the weights alone: "
        "torch.save(model.state_dict(), FILE). Only with a source you trust: torch.load(FILE, "
        "weights_only=False), or torch.serialization.add_safe_globals",
        sources=(
            "https://github.com/tencent-ailab/SongGeneration/issues/63",
            "https://github.com/chflame163/ComfyUI_LayerStyle/issues/499",
            "measured: torch 2.13.0",
        ),
    ),
)
