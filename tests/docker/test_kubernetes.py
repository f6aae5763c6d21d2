"""The pod of a rendered Job, run by the Docker engine with the rights that the manifest gives."""

import json

from validators import documents

from trtyard.publish.kubernetes import RowJob, manifest

DIGEST = "sha256:" + "0" * 64


def test_job_index_converts_its_model_into_the_volume(engine, row, image, out_folder):
    models = ("alexnet", "squeezenet1_1")
    job = RowJob(
        row=row.name,
        image=f"here@{DIGEST}",
        models=models,
        capabilities=(),
        gpus=0,
        claim="out",
        namespace="default",
    )
    pod = documents(manifest([job]))[0]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    # fsGroup makes the claim's root the group's; a folder has no such thing.
    out_folder.chmod(0o777)
    killed = out_folder / row.name / models[1] / ".partial-of-a-killed-attempt"
    killed.mkdir(parents=True)
    for folder in (killed, *killed.parents[:2]):
        folder.chmod(0o777)
    said = engine.containers.run(
        image,
        container["args"],
        entrypoint=container["command"],
        environment={"JOB_COMPLETION_INDEX": "1"},
        user=f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}",
        read_only=container["securityContext"]["readOnlyRootFilesystem"],
        cap_drop=container["securityContext"]["capabilities"]["drop"],
        security_opt=["no-new-privileges"],
        network_mode="none",
        mem_limit=container["resources"]["limits"]["memory"].replace("Gi", "g"),
        tmpfs={mounts["temporary"]: "rw,exec,size=2g,mode=1777"},
        volumes={str(out_folder): {"bind": mounts["out"], "mode": "rw"}},
        remove=True,
        stderr=True,
    )
    assert [file.name for file in (out_folder / row.name).iterdir()] == [models[1]]
    folder = out_folder / row.name / models[1]
    report = json.loads((folder / "report.json").read_text())
    assert (report["model"], report["row"]) == (models[1], row.name), said
    stages = {stage["name"]: stage["status"] for stage in report["stages"]}
    assert stages["onnxruntime"] == stages["engine"] == "passed"
    assert not killed.exists()
