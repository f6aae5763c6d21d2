"""The files that a conversion leaves, and the note beside an engine."""

from pathlib import Path
from typing import Any, Dict, Mapping, Optional

from trtyard.core.files import sha256_of, write_json
from trtyard.core.precisions import FP32, PRECISIONS, file_names, reduced
from trtyard.core.report import HTML_FILE, JSON_FILE, JUNIT_FILE, RUN_FILE, EngineFacts
from trtyard.core.request import REQUEST_FILE
from trtyard.pipeline.row import Row

ONNX = "model.onnx"
ONNX_DATA = "model.onnx.data"  # weights of model.onnx, if they are not in it
TWIN = "model.twin.onnx"  # what ONNX Runtime ran if it cannot run model.onnx
ENGINE = "model.engine"
ENGINE_NOTE = "model.engine.json"
ENGINE_LAYERS = "model.engine.layers.json"
OVERLAY = "overlay.png"
REPORTS = (JSON_FILE, HTML_FILE, JUNIT_FILE, RUN_FILE, REQUEST_FILE)

BISECT = "bisect"  # folder of the cases
MOST_CASES = 4
CASES = tuple(
    f"{BISECT}/case{number}.{kind}"
    for number in range(1, MOST_CASES + 1)
    for kind in ("onnx", "npz", "py")
)

REDUCED = tuple(name for one in reduced(",".join(PRECISIONS)) for name in file_names(one).values())

ALL = (
    ONNX,
    ONNX_DATA,
    TWIN,
    ENGINE,
    ENGINE_NOTE,
    ENGINE_LAYERS,
    *REDUCED,
    OVERLAY,
    *CASES,
    *REPORTS,
)


def artifact_facts(folder: Path) -> Dict[str, Dict[str, Any]]:
    """Return sha256 and size of every artifact in ``folder`` but the reports themselves."""
    return {
        name: {"sha256": sha256_of(folder / name), "bytes": (folder / name).stat().st_size}
        for name in ALL
        if name not in REPORTS and (folder / name).is_file()
    }


def write_engine_note(
    folder: Path,
    row: Row,
    facts: EngineFacts,
    versions: Dict[str, str],
    library: Optional[Path],
    precision: str = FP32,
    built_from: str = ONNX,
) -> None:
    """Write what the engine was built from and with, for whoever finds it later.

    A plan belongs to one TensorRT release; with plugins also to one plugin library.
    """
    names = file_names(precision)
    note: Mapping[str, Any] = {} if precision == FP32 else {"precision": precision}
    write_json(
        folder / names["note"],
        {
            "schema": 1,
            "row": row.name,
            **note,
            "engine": {"sha256": sha256_of(folder / names["engine"]), "bytes": facts.bytes},
            "built_from": {
                name: sha256_of(folder / name)
                for name in (built_from, ONNX_DATA)
                if (folder / name).is_file() and (name != ONNX_DATA or built_from == ONNX)
            },
            "built_with": versions,
            "runs_on": list(row.runs_on),
            "network_layers": facts.layers,
            "plugin_layers": list(facts.plugin_layers),
            "plugin_library": None if library is None else {"sha256": sha256_of(library)},
            "builder_warnings": list(facts.warnings),
        },
    )
