"""Models of the package transformers from a local folder; nothing is fetched or run from it."""

import inspect
from pathlib import Path
from typing import Any, List, Mapping, Optional

import torch

from trtyard.core.errors import UsageError
from trtyard.core.files import sha256_of
from trtyard.core.short_forms import short_name
from trtyard.pipeline.models.checkpoint import read_state, state_sha256
from trtyard.pipeline.models.model import Model, Weights
from trtyard.pipeline.models.own import own_model
from trtyard.pipeline.models.own_inputs import parse_inputs
from trtyard.pipeline.models.packaged import package_of
from trtyard.pipeline.models.user_code import where
from trtyard.pipeline.models.weights import Choice

_TOKENS = 16  # of the usual input
_DEFAULT_SIDE = 224
_MOST_NAMES = 3
_PICKLED = ".bin"
_WEIGHTS = ("*.safetensors", f"pytorch_model*{_PICKLED}")


def load_hf(spec: str, choice: Choice, input_shape: Optional[str]) -> Model:
    """Return the model of a folder with a config.json, with random inputs.

    Its class is the one that the config's ``architectures`` names. Without a weights file the
    weights are random, from torch's generator with the seed of ``choice``.

    Args:
        spec: ``hf:FOLDER``.
        choice: a seed, or a checkpoint.
        input_shape: see ``load_own``; None for token ids or pixels as the config describes them.

    Raises:
        UsageError: transformers has no such class, the folder's files do not fit it, or a weights
            file has code.
        EnvironmentLacksError: transformers is not installed.
    """
    transformers = package_of(spec)
    folder = Path(short_name(spec)).expanduser()
    try:
        config = transformers.AutoConfig.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # the package's code may raise anything
        raise UsageError(
            f"{spec}: transformers cannot read config.json: {where(error)}",
            "use a folder that save_pretrained() wrote, or another release: --with "
            "transformers==VERSION",
        ) from error
    kind = _class_of(transformers, config, spec)
    config.use_cache = False  # a cache is no tensor
    torch.manual_seed(choice.seed)
    files = sorted(one for pattern in _WEIGHTS for one in folder.glob(pattern))
    is_loaded = bool(files) and choice.file is None
    for file in files if is_loaded else ():
        if file.suffix == _PICKLED:
            read_state(str(file))  # refuses code, which some releases of transformers run
    try:
        if is_loaded:
            module, info = kind.from_pretrained(
                str(folder),
                config=config,
                local_files_only=True,
                torch_dtype=torch.float32,
                output_loading_info=True,
            )
        else:
            module, info = kind(config), {}
    except Exception as error:  # the package's code may raise anything
        raise UsageError(f"{spec} cannot be made: {where(error)}", "check the folder") from error
    _refuse_missing(info, spec, kind.__name__)
    weights = None
    if files:
        digest = sha256_of(files[0]) if len(files) == 1 else state_sha256(module)
        weights = Weights(", ".join(str(one) for one in files), digest)
    return own_model(
        module, spec, choice, parse_inputs(input_shape or _usual(module, spec)), weights
    )


def _class_of(transformers: Any, config: Any, spec: str) -> Any:
    """Return the class that the config's ``architectures`` names."""
    named = list(getattr(config, "architectures", None) or [])
    if not named:
        raise UsageError(
            f"{spec}: config.json names no class in 'architectures'",
            'add it, such as "architectures": ["BertModel"]',
        )
    found = getattr(transformers, named[0], None)
    if found is None:
        problem = f"{spec}: transformers {transformers.__version__} has no class {named[0]}"
        if getattr(config, "auto_map", None):
            problem += "; it is in the folder's own code, which is never run"
        raise UsageError(
            problem,
            "use another release: --with transformers==VERSION; or make the model in a function of "
            "yours: --model nets.py:make_net --with transformers",
        )
    return found


def _refuse_missing(info: Mapping[str, Any], spec: str, kind: str) -> None:
    """Raise UsageError for weights that the file lacks; transformers makes random ones."""
    missing = sorted(info.get("missing_keys") or ())
    if missing:
        shown = ", ".join(missing[:_MOST_NAMES]) + (", ..." if len(missing) > _MOST_NAMES else "")
        raise UsageError(
            f"{spec}: the weights lack {len(missing)} of {kind}: {shown}",
            "name the class of the weights in 'architectures' of config.json, or remove the "
            "weights file for random weights",
        )


def _usual(module: Any, spec: str) -> str:
    """Return --input for the module: token ids with their mask, or pixels, or both."""
    config, inputs = module.config, list(inspect.signature(module.forward).parameters)
    text = getattr(config, "text_config", None) or config
    vision = getattr(config, "vision_config", None) or config
    found: List[str] = []
    if "input_ids" in inputs:
        words = f"1x{_TOKENS}:int64:{text.vocab_size}"
        found.append(f"input_ids={words}")
        if "attention_mask" in inputs:
            found.append(f"attention_mask=1x{_TOKENS}:int64")
        if getattr(config, "is_encoder_decoder", False) and "decoder_input_ids" in inputs:
            found.append(f"decoder_input_ids={words}")
    if "pixel_values" in inputs:
        side = getattr(vision, "image_size", None) or _DEFAULT_SIDE
        height, width = side if isinstance(side, (list, tuple)) else (side, side)
        channels = getattr(vision, "num_channels", None) or 3
        found.append(f"pixel_values=1x{channels}x{height}x{width}")
    if not found:
        raise UsageError(
            f"{spec}: the inputs of {type(module).__name__} are not known: {', '.join(inputs)}",
            "give their shapes by name: --input input_features=1x80x3000",
        )
    return ",".join(found)
