"""From an ONNX file to a TensorRT engine. Needs no GPU with TensorRT for RTX."""

import re
from pathlib import Path
from typing import Any, List, Optional

from trtyard.pipeline.errors import ConversionError, EnvironmentLacksError
from trtyard.pipeline.explanation import conversion_error
from trtyard.pipeline.files import write_bytes
from trtyard.pipeline.kernels import KernelLibrary
from trtyard.pipeline.onnx_functions import OP_TYPES
from trtyard.pipeline.onnx_origin import describe, node_at, nodes_named_in
from trtyard.pipeline.report.schema import EngineFacts
from trtyard.pipeline.tensorrt.api import trt
from trtyard.pipeline.tensorrt.logger import KeptLog
from trtyard.pipeline.tensorrt.shells import RegisteredShells

# How TensorRT's parser begins to say that an op is neither its own nor a plugin's.
_PLUGIN_MISSING = "Plugin not found"

# A plan names the type of each plugin it will create: `"<layer>_pluginType" size=<name + NUL>`.
_PLUGIN_IN_PLAN = re.compile(rb'name="([^"]*)_pluginType" size=(\d+)')


def build_engine(
    onnx_file: Path, engine_file: Path, kernels: Optional[KernelLibrary] = None
) -> EngineFacts:
    """Parse ``onnx_file``, build an engine and write it to ``engine_file``, whole or not at all.

    The custom ops become plugins: their function bodies in the file are passed over
    (ENABLE_PLUGIN_OVERRIDE). Kernels are optional here; running needs them.

    Raises:
        ConversionError: the parser or the builder refused the model, or the engine does not hold
            every plugin that the network had.
        EnvironmentLacksError: TensorRT's own libraries are not laid out as its parser needs them.
    """
    check_library_link()
    log = KeptLog()
    with RegisteredShells(kernels):
        builder = trt.Builder(log)
        network = builder.create_network(0)
        _parse(network, onnx_file, log)
        _let_attention_come_apart(network)
        config = builder.create_builder_config()
        # Matrix products in TF32 carry ten bits of mantissa: that is not the fp32 of the report.
        config.clear_flag(trt.BuilderFlag.TF32)
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise _builder_refusal(onnx_file, log)
        plan_bytes = bytes(plan)
        in_network = plugin_layers_of(network)
        in_engine = plugin_layers_in_plan(plan_bytes)
        layers = network.num_layers
    if sorted(in_network) != sorted(in_engine):
        raise ConversionError(
            f"the network has the plugins {in_network}, but the engine holds {in_engine}"
        )
    write_bytes(engine_file, plan_bytes)
    return EngineFacts(len(plan_bytes), layers, tuple(in_network), tuple(log.warnings))


def check_library_link() -> None:
    """See that RTX's parser will find its library by the name it opens.

    The wheel ships only ``libtensorrt_rtx.so.1``; with a plugin registered from outside, the parser
    opens ``libtensorrt_rtx.so`` and aborts the process when there is none.

    Raises:
        EnvironmentLacksError: the link is missing.
    """
    try:
        import tensorrt_rtx_libs
    except ImportError:
        return
    for folder in map(Path, tensorrt_rtx_libs.__path__):
        if (folder / "libtensorrt_rtx.so.1").exists():
            link = folder / "libtensorrt_rtx.so"
            if not link.exists():
                raise EnvironmentLacksError(
                    "this environment lacks the link libtensorrt_rtx.so, which TensorRT's parser "
                    "opens",
                    f"ln -s libtensorrt_rtx.so.1 '{link}'",
                )


def plugin_layers_of(network: Any) -> List[str]:
    """Return the op types of a network's plugin layers, in the network's order."""
    plugins = []
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type == trt.LayerType.PLUGIN_V3:
            layer.__class__ = trt.IPluginV3Layer  # the bindings' own way to cast down
            core = layer.plugin.get_capability_interface(trt.PluginCapabilityType.CORE)
            plugins.append(core.plugin_name)
    return plugins


def _parse(network: Any, onnx_file: Path, log: KeptLog) -> None:
    parser = trt.OnnxParser(network, log)
    parser.set_flag(trt.OnnxParserFlag.ENABLE_PLUGIN_OVERRIDE)
    if parser.parse(onnx_file.read_bytes()):
        return
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    words = "\n".join(parser_error_in_words(error, onnx_file) for error in errors)
    words = words or log.last_errors()
    if _PLUGIN_MISSING in words:
        words += f"\n  registered plugins: {', '.join(registered_plugins()) or 'none'}"
    raise conversion_error(f"TensorRT's ONNX parser refuses {onnx_file.name}:\n{words}", words)


def _let_attention_come_apart(network: Any) -> None:
    """Allow the builder to make the op Attention of several kernels where it has no single one.

    The op came with opset 23. Without this, TensorRT for RTX refuses it in fp32.
    """
    for index in range(network.num_layers if hasattr(trt, "IAttentionInputLayer") else 0):
        layer = network.get_layer(index)
        if layer.type == trt.LayerType.ATTENTION_INPUT:
            layer.__class__ = trt.IAttentionInputLayer  # the bindings' own way to cast down
            layer.attention.decomposable = True


def parser_error_in_words(error: Any, onnx_file: Path) -> str:
    """Return one of the parser's errors with its node and where in Python that came from."""
    node = node_at(error.node(), onnx_file)
    # The wording of TensorRT's own log, by which such errors are known.
    said = f"  In function {error.func()}:\n  [{int(error.code())}] {error.desc()}"
    return said + "\n" + (describe(node) if node else f"  op: {error.node_operator()}")


def registered_plugins() -> List[str]:
    """Return name and version of every plugin that this process has registered."""
    creators = trt.get_plugin_registry().all_creators
    return [
        " ".join(part for part in (one.name, one.plugin_version, one.plugin_namespace) if part)
        for one in creators
    ]


def _builder_refusal(onnx_file: Path, log: KeptLog) -> ConversionError:
    reasons = log.last_errors()
    nodes = "\n".join(map(describe, nodes_named_in(reasons, onnx_file)))
    words = f"{reasons}\n{nodes}".rstrip()
    return conversion_error(f"TensorRT cannot build {onnx_file.name}:\n{words}", words)


def plugin_layers_in_plan(plan: bytes) -> List[str]:
    """Return the op types of the plugins that ``plan`` will create, in the plan's order.

    Without a device the runtime does not load a plan, so there is nothing for the engine
    inspector to look at; but a plan names its plugins in clear, by layer and by the length of the
    type's name.
    """
    by_length = {len(op_type) + 1: op_type for op_type in OP_TYPES}
    lengths = [int(size) for _layer, size in _PLUGIN_IN_PLAN.findall(plan)]
    return [by_length.get(length, "unknown") for length in lengths]
