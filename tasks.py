"""The tasks behind ``./run``: parse, call trtyard, map errors to exit codes. No logic.

Everything heavy is imported inside the task that needs it, so that ``./run --list`` is quick.
"""

from trtyard.cli.command import Optional, Repeated, command, refuse, words_after_dashes
from trtyard.core.request import ConversionRequest

ROW = "Row or alias of the matrix, see: ./run matrix."
REGISTRY = "HOST[:PORT][/PREFIX] (default: the environment variable TRTYARD_REGISTRY)."


@command(record=ConversionRequest, dry_run="Say what would be done, and do nothing.")
def convert(dry_run: bool = False, **words: str) -> int:
    """Convert a model to ONNX and TensorRT, and compare all runtimes with PyTorch."""
    from trtyard.run.convert import convert

    return convert(ConversionRequest.from_words(words), dry_run=dry_run)


@command(
    name="test",
    trt=ROW,
    only="Run just these parts, separated by commas: host, pipeline, slow (the pipeline's slow "
    "tests alone), rows, docker, gpu.",
    all="Run every part: the other rows up to ONNX, Docker, the GPU and the slow tests too. Says "
    "first what it downloads.",
)
def run_tests(
    trt: str = "default",
    only: str = "",
    all: bool = False,  # noqa: A002 - the option's name
) -> int:
    """Run the tests of the host side and of the pipeline in the row's environment.

    Words behind -- go to pytest: ./run test --only host -- -k lock
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
    check="Only prove, without a network, that the lock fits the matrix.",
    upgrade="Resolve this row alone, although it has not changed; without a name all of them.",
)
def lock(check: bool = False, upgrade: Optional = "") -> None:
    """Resolve versions.toml to versions.lock and requirements/host.in to host.txt; render images/.

    Only rows that changed are resolved. What differs afterwards is printed. Exit code 3: a part of
    the row that was asked for stays unresolved.
    """
    from trtyard.lock.relock import ALL, check_locks
    from trtyard.render.resolving import lock_and_render

    if check:
        refuse("--check", upgrade=upgrade)
    check_locks() if check else lock_and_render(upgrade=ALL if upgrade is True else str(upgrade))


@command(json="For programs: every row as JSON.")
def matrix(json: bool = False) -> None:
    """Show the rows: what is in them, their aliases, what is ready on this machine."""
    from trtyard.cli.matrix import show_matrix

    show_matrix(as_json=json)


@command(
    name="row add",
    release="TensorRT release such as 10.13, 10.13.2.6 or rtx-1.6, see: ./run row list "
    "--available.",
    like="Row or alias to take everything else from (default: the nearest release's).",
    torch="torch release, such as 2.12 or 2.12.1 (default: that of --like).",
    python="Python, such as 3.11 (default: that of --like).",
    cuda="CUDA release, such as 13.0 (default: that of --like).",
    opset="ONNX opset (default: that of --like).",
)
def row_add(
    release: str,
    like: str = "",
    torch: str = "",
    python: str = "",
    cuda: str = "",
    opset: str = "",
) -> None:
    """Add a row for a published TensorRT release, such as: ./run row add 10.13 --like 10.16.

    It is written to versions.toml, versions.lock and images/, or to none of them if anything fails.
    """
    from trtyard.render.rows import add_row

    add_row(release, like=like, torch=torch, python=python, cuda=cuda, opset=opset)


@command(name="row list", available="TensorRT releases that the package index has bindings of.")
def row_list(available: bool = False) -> None:
    """List the rows, or the TensorRT releases that can be added as rows."""
    from trtyard.render.rows import list_rows

    list_rows(available=available)


@command(name="row remove", row="The row's name.")
def row_remove(row: str) -> None:
    """Remove a row from versions.toml, versions.lock and images/."""
    from trtyard.render.rows import remove_row

    remove_row(row)


@command(
    trt="Row or alias of the matrix (default: all rows).",
    json="For programs: the patches as JSON.",
)
def patches(trt: str = "", json: bool = False) -> None:
    """Show which patches a row takes: what each does, what it cures, until when."""
    from trtyard.lock.patches import show_patches

    show_patches(trt, as_json=json)


@command(
    trt=ROW,
    headers="Folder with NvInfer.h: compile the C++ shells too, so that TensorRT "
    "loads the library by itself.",
    out="The library to write (default: out/ROW/libtrtyard_plugins.so).",
)
def plugins(trt: str = "default", headers: str = "", out: str = "") -> int:
    """Compile the TensorRT plugins with the row's own nvcc."""
    from trtyard.run.plugins import compile_plugins

    return compile_plugins(trt, headers=headers, out=out)


@command(
    old="Only environments made from an earlier lock.",
    dry_run="Only show it.",
    yes="Do not ask before deleting.",
)
def clean(old: bool = False, dry_run: bool = False, yes: bool = False) -> None:
    """Show and then delete what trtyard made to work: .trtyard and .venv. Results stay."""
    from trtyard.run.clean import clean

    clean(old=old, dry_run=dry_run, yes=yes)


@command(check="Only compare; exit 5 and name the files that differ.")
def render(check: bool = False) -> None:
    """Render templates/ and the lock into images/: Dockerfile, its inputs, the bake file.

    Also writes versions.schema.json, the JSON schema of versions.toml.
    """
    from trtyard.render.dockerfiles import render_all
    from trtyard.report.reading import write_schema

    render_all(check=check)
    write_schema(check=check)


@command(
    trt=ROW,
    force="Make them anew although they are there.",
    dry_run="Say what would be made, and make nothing.",
)
def base(trt: str = "default", force: bool = False, dry_run: bool = False) -> None:
    """Make the row's base images from this machine's apt sources, without a registry."""
    from trtyard.build.local_base import make_bases
    from trtyard.lock.row_and_lock import row_and_lock

    make_bases(*row_and_lock(trt), force=force, dry_run=dry_run)


@command(
    trt="Rows or aliases, with commas between; all: every row whose lock is whole.",
    base="auto, local (made by ./run base) or published (from the registry, by digest).",
    builder="A buildx builder other than the engine itself, see: docker buildx ls.",
    no_cache="Build every step anew.",
    store="Folder made by ./run fetch: take everything from there, without a network.",
    target="final: the whole toolchain. runtime: the small image that only runs engines. Or both, "
    "with a comma between.",
    cache_from="BuildKit's type=KIND,KEY=VALUE: take built steps from there. May be repeated.",
    cache_to="Likewise: leave built steps there; {target} in it is each image's own name.",
    locked="Refuse a row whose lock leaves parts open, instead of resolving these first.",
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
    """Build the rows' Docker images with one buildx bake, and print their names."""
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
    trt="Rows or aliases, with commas between; all: every row.",
    target="final, runtime, or both with a comma between.",
    store="Folder made by ./run fetch: say what of it is there.",
    json="For programs: one object an image.",
)
def plan(trt: str = "default", target: str = "final", store: str = "", json: bool = False) -> None:
    """Say what a build would make and download, what is there, and what stands in its way."""
    from trtyard.build.plan import show_plan

    show_plan(trt.split(","), stages=target.split(","), store=store, as_json=json)


@command(
    trt=ROW,
    target="final or runtime, as for build.",
    against="An image here to compare one build with, instead of building twice.",
    base="auto, local (made anew for each build) or published (from the registry, by digest).",
    store="Folder made by ./run fetch: take everything from there, without a network.",
    keep="Leave both images in .trtyard/reproduce, to look into.",
    json="For programs: the digests and all differences as JSON.",
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
    """Build the row's image twice from nothing, and name every file that is not the same."""
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
    target="final, runtime, or both with a comma between.",
    registry=REGISTRY,
    dry_run="Say what would be pushed, and push nothing.",
)
def push(
    trt: str = "default", target: str = "final", registry: str = "", dry_run: bool = False
) -> None:
    """Push the row's images, named by the hash of what went in, and print those names.

    Everything is read back from the registry, and what is damaged there is replaced.
    """
    from trtyard.publish.push_and_pull import push
    from trtyard.system.terminal import show

    for name in push(trt, stages=target.split(","), registry=registry, dry_run=dry_run):
        show(name)


@command(
    trt=ROW,
    target="final, runtime, or both with a comma between.",
    registry=REGISTRY,
    dry_run="Say what would be pulled, and pull nothing.",
)
def pull(
    trt: str = "default", target: str = "final", registry: str = "", dry_run: bool = False
) -> None:
    """Pull the very images that build would make, by digest, and print their names here."""
    from trtyard.publish.push_and_pull import pull
    from trtyard.system.terminal import show

    for name in pull(trt, stages=target.split(","), registry=registry, dry_run=dry_run):
        show(name)


@command(
    trt=ROW,
    target="final or runtime, as for build.",
    image="Look into this image instead of the row's.",
    json="For programs: all of it as JSON.",
    sbom="Print a bill of materials instead: SPDX 2.3 as JSON.",
)
def inspect(
    trt: str = "default",
    target: str = "final",
    image: str = "",
    json: bool = False,
    sbom: bool = False,
) -> None:
    """Show what a built image holds, without running it: packages, libraries, layers."""
    from trtyard.prove.inspect import show_image

    if sbom:
        refuse("--sbom", json=json)
    show_image(trt, target=target, image=image, as_json=json, sbom=sbom)


@command(
    trt=ROW,
    into="Folder for the files: packages/ and debs/ in it.",
    pythons="image (what the image's own Python takes) or all (the host executor's too).",
)
def fetch(trt: str = "default", into: str = "", pythons: str = "image") -> None:
    """Collect every file of the row by its hash, to build without a network."""
    from trtyard.build.store import fetch

    fetch(trt, into, pythons=pythons)


@command(
    target="github: the workflow. kubernetes: Jobs that convert.",
    check="github: only compare the workflow; exit 5 if it differs.",
    jobs="github: a file with what ./run matrix --json printed; print the job lists of it.",
    capability="With --jobs: compute capability of the GPU runner, such as 8.9.",
    trt="kubernetes: rows or aliases, separated by commas.",
    models="kubernetes: models, separated by commas; one index each.",
    image="kubernetes: ROW=HOST/NAME@sha256:..., separated by commas.",
    registry=f"kubernetes: ask it for the digests. {REGISTRY}",
    claim="kubernetes: the PersistentVolumeClaim that takes the reports.",
    namespace="kubernetes: the namespace of it all.",
    gpus="kubernetes: GPUs of each pod; 0: any node, and no engine is run.",
    out="kubernetes: file to write (default: standard output).",
)
def ci(
    target: str = "github",
    check: bool = False,
    jobs: str = "",
    capability: str = "",
    trt: str = "default",
    models: str = "alexnet,faster_rcnn",
    image: str = "",
    registry: str = "",
    claim: str = "trtyard-out",
    namespace: str = "default",
    gpus: str = "1",
    out: str = "",
) -> None:
    """Render .github/workflows/images.yml from templates/ci/, or Kubernetes Jobs."""
    if target == "kubernetes":
        from trtyard.publish.kubernetes import render_jobs

        refuse("--target kubernetes", check=check, jobs=jobs, capability=capability)
        render_jobs(
            trt,
            models=models,
            images=image,
            registry=registry,
            claim=claim,
            namespace=namespace,
            gpus=gpus,
            out=out,
        )
        return
    from trtyard.render.workflow import run

    refuse(f"--target {target}", image=image, registry=registry, out=out)
    run(target, check=check, jobs=jobs, capability=capability)


@command(
    folder="Folders that hold report.json at any depth; may be repeated.",
    out="The index page over several reports (default: index.html in the folder of them all).",
)
def report(folder: Repeated = (), out: str = "") -> None:
    """Make report.html and junit.xml from report.json, and an index page of several.

    Such as: ./run report out. A conversion with ./run makes its own pages; this is for the
    report.json of containers that were started without it.
    """
    from trtyard.report.pages import make_pages

    make_pages(list(folder), out=out)


@command(
    from_="Folder with ROW/MODEL/report.json and ROW/image.json of a CI run.",
    check="Only compare: README against the data, and with --from this run against both.",
    need="ROW:COLUMN, such as rtx:engine-run: fail unless the reports show it passed.",
)
def verified(from_: str = "", check: bool = False, need: str = "") -> None:
    """Make the README's table of what was verified from a run's reports, or check it."""
    from trtyard.prove.verified import run

    run(folder=from_, check=check, need=need)


@command(
    log="A file, - for stdin, the error's words in quotes, or the name of a known failure.",
    onnx="The model's ONNX file: the node's origin is looked up in it, and what shows in it alone.",
    trt="Row whose environment reads --onnx, see: ./run matrix.",
)
def explain(log: str, onnx: str = "", trt: str = "default") -> int:
    """Say what went wrong in a log from anywhere: where, why, what to do.

    Exit code 0: what failed is known. 1: it is not; the lines that look like errors are shown.
    """
    from trtyard.diagnose.explain import explain_log

    return explain_log(log, onnx=onnx, row=trt)


@command(
    trt=ROW,
    model="An ONNX file, or a model by name, which is exported first: its ops are checked.",
    input="Inputs of a model of your own, such as 1x3x224x224 or 1x16:int64:30522,1x16:bool.",
    size="Side of the network's input in pixels.",
)
def doctor(
    trt: str = "default",
    model: str = "",
    input: str = "",  # noqa: A002 - the option's name
    size: str = "",
) -> int:
    """Say what is in a row's way on this machine, and with a model which of its ops are.

    Exit code 0: the row can make engines here. 3: it cannot. 4: it does not take the model.
    """
    from trtyard.diagnose.doctor import doctor

    return doctor(trt, model=model, input_shape=input, size=size)
