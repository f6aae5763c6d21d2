"""The tasks of ``./run``: they parse options and call trtyard, without logic of their own.

Each task imports what it needs when it runs, so that ``./run --list`` is fast.
"""

from trtyard.cli.command import Optional, Repeated, command, refuse, words_after_dashes
from trtyard.core.errors import UsageError
from trtyard.core.request import BenchRequest, ConversionRequest

ROW = "Row or alias of the matrix (default: the default row); list them with ./run matrix."
REGISTRY = "HOST[:PORT][/PREFIX] (default: the environment variable TRTYARD_REGISTRY)."


@command(record=ConversionRequest, dry_run="Print what would be done, and do nothing.")
def convert(dry_run: bool = False, **words: str | bool | Repeated) -> int:
    """Convert a model to ONNX and TensorRT, and compare the results with PyTorch.

    For an ONNX file, the results of TensorRT are compared with ONNX Runtime. run.py in the output
    folder runs the result without torch and trtyard. Example: ./run convert --model alexnet.
    """
    from trtyard.run.convert import convert

    return convert(ConversionRequest.from_words(words), dry_run=dry_run)


@command(record=BenchRequest, dry_run="Print what would be done, and do nothing.")
def bench(dry_run: bool = False, **words: str | bool) -> int:
    """Convert a model, and time PyTorch, ONNX Runtime and TensorRT at each batch size.

    The times are in the report's section Latency. A runtime that cannot run here is listed as not
    run, with the reason. Example: ./run bench --model resnet50 --batch 1,8.
    """
    from trtyard.run.convert import convert

    return convert(BenchRequest.from_words(words), dry_run=dry_run)


@command(
    file="File with the conversions; paths in it are relative to its folder.",
    on="here (this machine, the default) or slurm (job arrays; run it on a login node).",
    out="Folder for the results (default: out/batch/NAME for NAME.toml).",
    workers="here: number of conversions that run at the same time (default: 1).",
    again="Also run finished conversions.",
    dry_run="List what would run and what is finished, and run nothing.",
    gpus="slurm: GPUs for each conversion (default: 1). 0: use any node and run no engines.",
    constraint="slurm: features of the nodes (default: cc8.6 and so on, for the compute "
    "capabilities that the row's engines run on). none: any node.",
    retries="slurm: submit a conversion again up to this many times if it was killed or ended with "
    "exit code 3 (default: 2).",
)
def batch(
    file: str,
    on: str = "here",
    out: str = "",
    workers: str = "",
    again: bool = False,
    dry_run: bool = False,
    gpus: str = "",
    constraint: str = "",
    retries: str = "",
) -> int:
    """Run all conversions of a file such as jobs.toml, except finished ones.

    The file has [[jobs]] with lists of models, rows and precisions, and options of convert:
    docs/scaling.md. Arguments after -- are passed to sbatch:
    ./run batch jobs.toml --on slurm -- -p PARTITION
    Exit code: the worst of all conversions, from best to worst 0, 3, 1, 4, 2, 5, 70.
    """
    from trtyard.batch.batch import run_batch, slurm_options

    words = words_after_dashes()
    if on != "slurm":
        refuse(f"--on {on}", gpus=gpus, constraint=constraint, retries=retries)
        if words:
            raise UsageError(f"--on {on} does not support options after --", "leave them out")
    slurm = slurm_options(gpus, constraint, retries, words)
    return run_batch(
        file, on=on, out=out, workers=workers, again=again, dry_run=dry_run, slurm=slurm
    )


@command(
    record=ConversionRequest,
    without=("bisect", "until", "export"),
    between="Runtimes to compare: torch,onnxruntime (default), onnxruntime,tensorrt or "
    "torch,tensorrt. TensorRT needs a GPU.",
    onnx="ONNX file of the model to compare with, instead of exporting it.",
    out="Folder for the results (default: out/ROW/MODEL-bisect in the trtyard folder).",
)
def bisect(**words: str | bool) -> int:
    """Find the first node in which two runtimes differ, its source line and the cause.

    Converts the model into out/ROW/MODEL-bisect and compares intermediate values. By default it
    compares the ONNX file with PyTorch. --between onnxruntime,tensorrt compares the engine with the
    ONNX file, and --between torch,tensorrt does both. TensorRT needs a GPU.
    """
    from trtyard.run.bisect import bisect

    return bisect(ConversionRequest.from_words(words))


@command(
    name="test",
    trt=ROW,
    only="Run only these parts, separated by commas: host, pipeline, slow (the pipeline's slow "
    "tests), rows, docker, gpu.",
    all="Run all parts, including slow tests, other rows, Docker and GPU. Prints what it will "
    "download.",
)
def run_tests(
    trt: str = "default",
    only: str = "",
    all: bool = False,  # noqa: A002 - the option's name
) -> int:
    """Run the tests of the host side, and of the pipeline in the row's environment.

    Arguments after -- are passed to pytest: ./run test --only host -- -k lock
    """
    from trtyard.run import selftest

    if only:
        refuse("--only", all=all)
    return selftest.run_tests(trt, only=only, all_parts=all, words=words_after_dashes())


@command()
def lint() -> int:
    """Check style, types, spelling and the direction of imports."""
    from trtyard.run.selftest import run_linters

    return run_linters()


@command(
    check="Only check that versions.lock matches versions.toml, without a network.",
    upgrade="Resolve this row again with the newest releases; without a name, all rows.",
)
def lock(check: bool = False, upgrade: Optional = "") -> None:
    """Lock versions.toml to versions.lock and requirements/host.in to host.txt; render images/.

    Resolves only the rows that changed, and prints the differences. Exit code 3: the row of
    --upgrade still has unresolved entries. Exit code 5: --check found a difference.
    """
    from trtyard.lock.relock import ALL, check_locks
    from trtyard.render.resolving import lock_and_render

    if check:
        refuse("--check", upgrade=upgrade)
    check_locks() if check else lock_and_render(upgrade=ALL if upgrade is True else str(upgrade))


@command(json="Print every row as JSON.")
def matrix(json: bool = False) -> None:
    """List the rows with their versions, their aliases, and what is ready on this machine."""
    from trtyard.cli.matrix import show_matrix

    show_matrix(as_json=json)


@command(
    name="row add",
    release="TensorRT release, such as 10.13 or 10.13.2.6; list them with ./run row list "
    "--available.",
    like="Row or alias to copy everything else from (default: the row with the nearest release).",
    torch="torch release, such as 2.12 or 2.12.1 (default: as in --like).",
    python="Python, such as 3.11 (default: as in --like).",
    cuda="CUDA release, such as 13.0 (default: as in --like).",
    opset="ONNX opset (default: as in --like).",
)
def row_add(
    release: str,
    like: str = "",
    torch: str = "",
    python: str = "",
    cuda: str = "",
    opset: str = "",
) -> None:
    """Add a row for a published TensorRT release, such as ./run row add 10.13 --like 10.16.

    Changes versions.toml, versions.lock and images/. After an error, none of them is changed.
    """
    from trtyard.render.rows import add_row

    add_row(release, like=like, torch=torch, python=python, cuda=cuda, opset=opset)


@command(name="row list", available="List the TensorRT releases on the package index instead.")
def row_list(available: bool = False) -> None:
    """List the rows, or the TensorRT releases that can be added as rows."""
    from trtyard.render.rows import list_rows

    list_rows(available=available)


@command(name="row remove", row="Name of the row; list them with ./run row list.")
def row_remove(row: str) -> None:
    """Remove a row from versions.toml, versions.lock and images/."""
    from trtyard.render.rows import remove_row

    remove_row(row)


@command(
    trt="Row or alias of the matrix (default: all rows).",
    json="Print the patches as JSON.",
)
def patches(trt: str = "", json: bool = False) -> None:
    """List the rows' patches: what each does, the errors it fixes, the releases that need it."""
    from trtyard.lock.patches import show_patches

    show_patches(trt, as_json=json)


@command(
    trt=ROW,
    for_="Runtime that loads the library: tensorrt (default), or onnxruntime (custom ops).",
    headers="Folder with NvInfer.h: also compile the C++ plugins, which TensorRT can load itself. "
    "With --for onnxruntime: folder with onnxruntime_cxx_api.h (default: from a locked package).",
    out="Library to write (default: out/ROW/libtrtyard_plugins.so, or libtrtyard_ort.so).",
)
def plugins(trt: str = "default", for_: str = "tensorrt", headers: str = "", out: str = "") -> int:
    """Compile the plugins with the row's own nvcc."""
    from trtyard.run.plugins import compile_plugins

    return compile_plugins(trt, runtime=for_, headers=headers, out=out)


@command(
    old="Delete only environments of earlier locks.",
    dry_run="List the folders, and delete nothing.",
    yes="Delete without asking.",
)
def clean(old: bool = False, dry_run: bool = False, yes: bool = False) -> None:
    """List trtyard's work folders, .trtyard and .venv, then ask and delete them. Keeps results."""
    from trtyard.run.clean import clean

    clean(old=old, dry_run=dry_run, yes=yes)


@command(check="Only compare; list the files that differ. Exit code 5 if there are any.")
def render(check: bool = False) -> None:
    """Render images/ from templates/ and the lock: Dockerfiles, their inputs, the bake file.

    Also writes the JSON schemas: versions.schema.json and trtyard/report/report.schema.json.
    """
    from trtyard.render.dockerfiles import render_all
    from trtyard.report.reading import write_schema

    render_all(check=check)
    write_schema(check=check)


@command(
    trt=ROW,
    force="Make the base images again even if they exist.",
    dry_run="Print what would be made, and make nothing.",
)
def base(trt: str = "default", force: bool = False, dry_run: bool = False) -> None:
    """Make the row's base images from this machine's apt sources, without a registry."""
    from trtyard.build.local_base import make_bases
    from trtyard.lock.row_and_lock import row_and_lock

    make_bases(*row_and_lock(trt), force=force, dry_run=dry_run)


@command(
    trt="Rows or aliases, separated by commas (default: the default row); all: every row without "
    "unresolved entries.",
    base="Base image: local (made by ./run base), published (from the registry, by digest), or "
    "auto (default): the one that is available.",
    builder="buildx builder to use instead of the engine's; list them with docker buildx ls.",
    no_cache="Build every step again.",
    store="Folder made by ./run fetch: use only its files, without a network.",
    target="final (the whole toolchain, the default), runtime (a small image that only runs "
    "engines), or both, separated by a comma.",
    cache_from="Import this build cache: BuildKit's type=KIND,KEY=VALUE. May be repeated.",
    cache_to="Export the build cache, in the same format; {target} is replaced by each image's "
    "target. May be repeated.",
    locked="Fail if a row has unresolved entries, instead of resolving them first.",
    dry_run="Print the command, and build nothing.",
)
def build(
    trt: str = "default",
    base: str = "auto",
    builder: str = "",
    no_cache: bool = False,
    store: str = "",
    target: str = "final",
    cache_from: Repeated = (),
    cache_to: Repeated = (),
    locked: bool = False,
    dry_run: bool = False,
) -> None:
    """Build the rows' Docker images with one bake command, and print their names."""
    from trtyard.build.bake import Options, cache_places
    from trtyard.build.build import build_all
    from trtyard.system.terminal import show

    options = Options(
        base=base,
        builder=builder,
        no_cache=no_cache,
        store=store,
        cache_from=cache_places("--cache-from", cache_from),
        cache_to=cache_places("--cache-to", cache_to),
        locked=locked,
        dry_run=dry_run,
    )
    names = build_all(trt.split(","), stages=target.split(","), options=options)
    if not dry_run:
        for name in names:
            show(name)


@command(
    trt="Rows or aliases, separated by commas (default: the default row); all: every row.",
    target="final (default), runtime, or both, separated by a comma.",
    store="Folder made by ./run fetch: also count the files that it already has.",
    json="Print JSON with one object for each image.",
)
def plan(trt: str = "default", target: str = "final", store: str = "", json: bool = False) -> None:
    """Print what a build would download and build, what exists already, and what prevents it."""
    from trtyard.build.plan import show_plan

    show_plan(trt.split(","), stages=target.split(","), store=store, as_json=json)


@command(
    trt=ROW,
    target="final (default) or runtime, as for build.",
    against="Compare one build with this local image, instead of building twice.",
    base="Base image: local (made again for each build), published (from the registry, by "
    "digest), or auto (default): the one that is available.",
    store="Folder made by ./run fetch: use only its files, without a network.",
    keep="Keep both images in .trtyard/reproduce.",
    json="Print the digests and all differences as JSON.",
    dry_run="Print the commands, and build nothing.",
)
def reproduce(
    trt: str = "default",
    target: str = "final",
    against: str = "",
    base: str = "auto",
    store: str = "",
    keep: bool = False,
    json: bool = False,
    dry_run: bool = False,
) -> None:
    """Build the row's image twice without caches, and list every file that differs."""
    from trtyard.prove.reproduce import reproduce

    reproduce(
        trt,
        stage=target,
        against=against,
        base=base,
        store=store,
        keep=keep,
        as_json=json,
        dry_run=dry_run,
    )


@command(
    trt=ROW,
    target="final (default), runtime, or both, separated by a comma.",
    registry=REGISTRY,
    dry_run="Print what would be pushed, and push nothing.",
)
def push(
    trt: str = "default", target: str = "final", registry: str = "", dry_run: bool = False
) -> None:
    """Push the row's images, named by the hash of their inputs, and print these names.

    Everything is read back from the registry to check it; damaged parts are replaced.
    """
    from trtyard.publish.push_and_pull import push
    from trtyard.system.terminal import show

    for name in push(trt, stages=target.split(","), registry=registry, dry_run=dry_run):
        show(name)


@command(
    trt=ROW,
    target="final (default), runtime, or both, separated by a comma.",
    registry=REGISTRY,
    dry_run="Print what would be pulled, and pull nothing.",
)
def pull(
    trt: str = "default", target: str = "final", registry: str = "", dry_run: bool = False
) -> None:
    """Pull the images that build would make, by digest, and print their local names."""
    from trtyard.publish.push_and_pull import pull
    from trtyard.system.terminal import show

    for name in pull(trt, stages=target.split(","), registry=registry, dry_run=dry_run):
        show(name)


@command(
    trt=ROW,
    target="final (default) or runtime, as for build.",
    image="Inspect this image instead of the row's.",
    json="Print everything as JSON.",
    sbom="Print a bill of materials (SPDX 2.3 as JSON) instead.",
)
def inspect(
    trt: str = "default",
    target: str = "final",
    image: str = "",
    json: bool = False,
    sbom: bool = False,
) -> None:
    """List the packages, libraries and layers of a built image, without running it."""
    from trtyard.prove.inspect import show_image

    if sbom:
        refuse("--sbom", json=json)
    show_image(trt, target=target, image=image, as_json=json, sbom=sbom)


@command(
    trt=ROW,
    into="Folder for the files, in packages/, debs/ and sources/.",
    pythons="image (files for the image's own Python, the default) or all (also for --in host).",
)
def fetch(trt: str = "default", into: str = "", pythons: str = "image") -> None:
    """Download every file of the row, checked by hash, for builds without a network."""
    from trtyard.build.store import fetch

    fetch(trt, into, pythons=pythons)


@command(
    target="github (the workflow, the default) or kubernetes (Jobs that convert models).",
    check="github: only compare the workflow; exit code 5 if it differs.",
    jobs="github: print the job lists for this file, the output of ./run matrix --json. "
    "kubernetes: a file such as jobs.toml of ./run batch, instead of --trt and --models.",
    capability="With --jobs: compute capability of the GPU runner, such as 8.9.",
    trt="kubernetes: rows or aliases, separated by commas (default: the default row).",
    models="kubernetes: models, separated by commas; one Job index for each (default: "
    "alexnet,faster_rcnn).",
    image="kubernetes: images as ROW=HOST/NAME@sha256:..., separated by commas.",
    registry=f"kubernetes: get the digests from this registry. {REGISTRY}",
    claim="kubernetes: PersistentVolumeClaim for the reports (default: trtyard-out).",
    namespace="kubernetes: namespace of all objects (default: default).",
    gpus="kubernetes: GPUs for each pod (default: 1). 0: use any node and run no engines.",
    out="kubernetes: file to write (default: standard output).",
)
def ci(
    target: str = "github",
    check: bool = False,
    jobs: str = "",
    capability: str = "",
    trt: str = "",
    models: str = "",
    image: str = "",
    registry: str = "",
    claim: str = "",
    namespace: str = "",
    gpus: str = "",
    out: str = "",
) -> None:
    """Render .github/workflows/images.yml from templates/ci/, or Kubernetes Jobs."""
    if target == "kubernetes":
        from trtyard.batch.kubernetes import commands_of
        from trtyard.publish.kubernetes import render_jobs

        refuse("--target kubernetes", check=check, capability=capability)
        if jobs:
            refuse("--jobs", trt=trt, models=models)
        render_jobs(
            trt or "default",
            models=models or "alexnet,faster_rcnn",
            commands=commands_of(jobs) if jobs else None,
            images=image,
            registry=registry,
            claim=claim or "trtyard-out",
            namespace=namespace or "default",
            gpus=gpus or "1",
            out=out,
        )
        return
    from trtyard.render.workflow import run

    refuse(
        f"--target {target}",
        trt=trt,
        models=models,
        image=image,
        registry=registry,
        claim=claim,
        namespace=namespace,
        gpus=gpus,
        out=out,
    )
    run(target, check=check, jobs=jobs, capability=capability)


@command(
    folder="Folder with report.json files at any depth. May be repeated.",
    out="Index page to write for several reports (default: index.html in their common folder).",
)
def report(folder: Repeated = (), out: str = "") -> None:
    """Make report.html, junit.xml and run.py from report.json, and an index of several reports.

    ./run convert makes the files of one report itself. Use this for an index of several reports,
    and for containers that were started without ./run. Example: ./run report out.
    """
    from trtyard.report.pages import make_pages

    make_pages(list(folder), out=out)


@command(
    from_="Folder with ROW/MODEL/report.json and ROW/image.json of a CI run.",
    check="Only check that the table matches the data, and with --from also the reports.",
    need="ROW:COLUMN, such as rtx:engine-run: fail unless the reports show that it passed.",
)
def verified(from_: str = "", check: bool = False, need: str = "") -> None:
    """Generate the verification table from CI reports."""
    from trtyard.prove.verified import run

    run(folder=from_, check=check, need=need)


@command(
    log="Log file, - for stdin, an error message in quotes, or the name of a known failure.",
    onnx="The model's ONNX file: use it to find the node's source line and problems of the model.",
    trt="Row whose environment reads --onnx (default: the default row); list them with ./run "
    "matrix.",
)
def explain(log: str, onnx: str = "", trt: str = "default") -> int:
    """Explain the error in a log: where it happened, why, and what to do.

    Exit code 0: the error is known. 1: it is not known; the lines that look like errors are
    printed. 2: the file does not exist or is empty.
    """
    from trtyard.diagnose.explain import explain_log

    return explain_log(log, onnx=onnx, row=trt)


@command(
    trt=ROW,
    model="Also check the ops of this model: an ONNX file, or a model to export first.",
    input="Shapes of the inputs, as for convert; a range is checked at its opt size.",
    size="Side of the network's input in pixels.",
)
def doctor(
    trt: str = "default",
    model: str = "",
    input: str = "",  # noqa: A002 - the option's name
    size: str = "",
) -> int:
    """Check that this machine can build and run a row, and that TensorRT supports a model's ops.

    Exit code 0: the row can build engines here. 3: it cannot. 4: it does not support an op of the
    model.
    """
    from trtyard.diagnose.doctor import doctor

    return doctor(trt, model=model, input_shape=input, size=size)
