"""From an ONNX file to a TensorRT engine. Needs no GPU with TensorRT for RTX."""

from collections import Counter
from pathlib import Path
from typing import List, Optional, Sequence

import onnx

from trtyard.core.errors import ConversionError, EnvironmentLacksError
from trtyard.core.files import write_bytes
from trtyard.core.precisions import FP32
from trtyard.core.report import EngineFacts
from trtyard.pipeline.interrupts import held_back
from trtyard.pipeline.onnx_functions import keep_functions
from trtyard.pipeline.onnx_model.facts import data_files
from trtyard.pipeline.onnx_model.origin import describe, node_at, nodes_named_in
from trtyard.pipeline.onnx_model.versions import HAS_FUNCTIONS
from trtyard.pipeline.ops.contract import DOMAIN
from trtyard.pipeline.ops.registry import FUNCTION_TYPES, PLUGIN_TYPES
from trtyard.pipeline.tensorrt.api import trt
from trtyard.pipeline.tensorrt.driver import Driver, ProfileShapes
from trtyard.pipeline.tensorrt.drivers import this_driver
from trtyard.pipeline.tensorrt.log import Log

# How TensorRT's parser begins to say that an op is neither its own nor a plugin's.
_PLUGIN_MISSING = "Plugin not found"


def build_engine(
    onnx_file: Path,
    engine_file: Path,
    library: Optional[Path] = None,
    profiles: Sequence[ProfileShapes] = (),
    precision: str = FP32,
    kept: Sequence[str] = (),
    watched: Sequence[str] = (),
    as_outputs: bool = False,
) -> EngineFacts:
    """Parse ``onnx_file``, build an engine and write it to ``engine_file``, whole or not at all.

    The custom ops become plugins: their function bodies in the file are passed over. ``library``
    holds the plugins' kernels. TensorRT for RTX, 10 and 11 build without them, but ask them how
    much scratch memory the engine must give them: built without, it cannot run.

    Each of ``profiles`` becomes an optimization profile. A file with open dimensions needs one.
    ``precision`` is the file's, or what the builder makes of it before TensorRT 8; ``kept`` names
    the nodes that stay in fp32.

    Each run gives the intermediate tensors ``watched`` too, ``as_outputs`` or as debug tensors.

    Raises:
        ConversionError: the parser or the builder refused the model, or a custom op became no
            plugin of the network, or one of the network's plugins is not in the engine.
        EnvironmentLacksError: TensorRT's own libraries are not laid out as its parser needs them,
            the plugin library cannot be loaded, or nothing here drives this release.
    """
    check_library_link()
    driver = this_driver()
    with held_back(), driver.log() as log:
        logger = driver.logger(log)
        with driver.plugins(library, logger):
            builder = trt.Builder(logger)
            network = driver.create_network(builder, precision)
            _parse(network, logger, onnx_file, driver, log)
            in_network = plugin_layers_of(network, driver)
            _check_custom_ops(onnx_file, in_network)
            driver.prepare(network, kept)
            if watched:
                driver.watch(network, watched, as_outputs)
            config = builder.create_builder_config()
            driver.configure(config, precision)
            for shapes in profiles:
                driver.add_profile(builder, config, _of_inputs(network, shapes))
            plan = driver.plan(builder, network, config)
            if plan is None:
                raise _builder_refusal(onnx_file, log)
            layers = network.num_layers
    in_plan = driver.plugins_in_plan(plan)
    # A plan holds what it runs for each of its profiles.
    in_network_each = in_network * max(len(profiles), 1)
    if in_plan is not None and sorted(in_network_each) != sorted(in_plan):
        raise ConversionError(
            f"the network has the plugins {in_network}, but the engine holds {in_plan}"
        )
    write_bytes(engine_file, plan)
    return EngineFacts(len(plan), layers, tuple(in_network), tuple(log.warnings), len(profiles))


def _of_inputs(network: "trt.INetworkDefinition", shapes: ProfileShapes) -> ProfileShapes:
    """Return the shapes of inputs that the network has: an exporter leaves out unused ones."""
    names = [network.get_input(index).name for index in range(network.num_inputs)]
    return {name: one for name, one in shapes.items() if name in names}


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


def plugin_layers_of(
    network: "trt.INetworkDefinition", driver: Optional[Driver] = None
) -> List[str]:
    """Return the op types of a network's plugin layers, in the network's order."""
    driver = driver or this_driver()
    types = [driver.plugin_type(network.get_layer(index)) for index in range(network.num_layers)]
    return [each for each in types if each is not None]


def _parse(
    network: "trt.INetworkDefinition",
    logger: "trt.ILogger",
    onnx_file: Path,
    driver: Driver,
    log: Log,
) -> None:
    parser = trt.OnnxParser(network, logger)
    driver.set_up_parser(parser)
    if _is_parsed(parser, onnx_file, driver):
        return
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    words = "\n".join(parser_error_in_words(error, onnx_file, driver) for error in errors)
    words = words or log.last_errors()
    if _PLUGIN_MISSING in words:
        words += f"\n  registered plugins: {', '.join(driver.registered_plugins()) or 'none'}"
    raise ConversionError(f"TensorRT's ONNX parser refuses {onnx_file.name}:\n{words}", log=words)


def _is_parsed(parser: "trt.OnnxParser", onnx_file: Path, driver: Driver) -> bool:
    """Parse the model; large weights in another file are never all in memory."""
    if data_files(onnx.load(str(onnx_file), load_external_data=False)):
        parsed = driver.parse_with_data(parser, onnx_file)
        if parsed is not None:
            return parsed
    return bool(parser.parse(_model_for(onnx_file, driver)))


def _model_for(onnx_file: Path, driver: Driver) -> bytes:
    """Return the whole model as this parser takes it; nodes keep their indices."""
    is_whole = not data_files(onnx.load(str(onnx_file), load_external_data=False))
    if is_whole and (driver.takes_functions or not HAS_FUNCTIONS):
        return onnx_file.read_bytes()
    model = onnx.load(str(onnx_file))  # the parser gets no path to look beside
    if not driver.takes_functions and HAS_FUNCTIONS:
        keep_functions(model, FUNCTION_TYPES)
    return bytes(model.SerializeToString())


def _check_custom_ops(onnx_file: Path, in_network: List[str]) -> None:
    """See that each custom op of the file is a plugin, and not its function body."""
    nodes = onnx.load(str(onnx_file), load_external_data=False).graph.node
    in_file = Counter(
        node.op_type
        for node in nodes
        if node.domain == DOMAIN and node.op_type not in FUNCTION_TYPES
    )
    ours = Counter(op_type for op_type in in_network if op_type in PLUGIN_TYPES)
    if in_file != ours:
        raise ConversionError(
            f"{onnx_file.name} has the custom ops {sorted(in_file.elements())}, "
            f"but the network has the plugins {sorted(ours.elements())}"
        )


def parser_error_in_words(error: "trt.ParserError", onnx_file: Path, driver: Driver) -> str:
    """Return one of the parser's errors with its node and where in Python that came from."""
    node = node_at(error.node(), onnx_file)
    # The wording of TensorRT's own log, by which such errors are known.
    said = f"  In function {error.func()}:\n  [{int(error.code())}] {error.desc()}"
    if node is not None:
        return f"{said}\n{describe(node)}"
    op = driver.op_of(error)
    return f"{said}\n  op: {op}" if op else said


def _builder_refusal(onnx_file: Path, log: Log) -> ConversionError:
    reasons = log.last_errors()
    nodes = "\n".join(map(describe, nodes_named_in(reasons, onnx_file)))
    words = f"{reasons}\n{nodes}".rstrip()
    return ConversionError(f"TensorRT cannot build {onnx_file.name}:\n{words}", log=words)
