import re

import pytest
from validators import documents, validate

from trtyard.core.errors import UsageError
from trtyard.publish import kubernetes
from trtyard.publish.kubernetes import RowJob, capabilities, manifest

DIGEST = "sha256:" + "0123456789abcdef" * 4
IMAGE = f"registry.example.org/team/rtx-1.7@{DIGEST}"


def job(**changes):
    values = {
        "row": "rtx-1.7",
        "image": IMAGE,
        "models": ("alexnet", "faster_rcnn"),
        "capabilities": capabilities(["8.6", "8.9", "12.0"]),
        "gpus": 1,
        "claim": "trtyard-out",
        "namespace": "default",
    }
    return RowJob(**{**values, **changes})


TWO_ROWS = manifest([job(), job(row="8.6", image=f"localhost:5000/8.6@{DIGEST}")])


@pytest.mark.parametrize("version", ["1.29", "1.33", "1.37"])
@pytest.mark.parametrize("text", [TWO_ROWS, manifest([job(gpus=0, models=("alexnet",))])])
def test_manifest_is_valid_kubernetes(tmp_path, version, text):
    file = tmp_path / "jobs.yml"
    file.write_text(text)
    done = validate("kubernetes-validate", "--strict", "-k", version, str(file))
    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).count(" passed for resource ") == text.count("\nkind: ")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("backoffLimitPerIndex: 2", "backoffLimitPerIndx: 2"),
        ("completions: 2", "completions: two"),
        ("        - name: convert\n", "        -\n"),
    ],
)
def test_schema_rejects_a_wrong_manifest(tmp_path, old, new):
    file = tmp_path / "jobs.yml"
    assert old in TWO_ROWS
    file.write_text(TWO_ROWS.replace(old, new))
    assert validate("kubernetes-validate", "--strict", str(file)).returncode == 1


def test_each_row_is_an_indexed_job_of_its_models_with_its_image():
    *jobs, policy = documents(TWO_ROWS)
    assert [one["metadata"]["labels"]["trtyard/row"] for one in jobs] == ["rtx-1.7", "8.6"]
    for one in jobs:
        spec = one["spec"]
        assert (spec["completionMode"], spec["completions"]) == ("Indexed", 2)
        assert spec["backoffLimitPerIndex"] == 2
        assert spec["template"]["spec"]["restartPolicy"] == "Never"  # or Kubernetes refuses it
        image = spec["template"]["spec"]["containers"][0]["image"]
        assert image.endswith(f"{one['metadata']['labels']['trtyard/row']}@{DIGEST}")
    # The policy holds the pods, not the Jobs.
    labels = jobs[0]["spec"]["template"]["metadata"]["labels"]
    selected = policy["spec"]["podSelector"]["matchLabels"]
    assert selected.items() <= labels.items()
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert not {"ingress", "egress"} & set(policy["spec"])


def test_final_errors_are_not_retried():
    rules = documents(TWO_ROWS)[0]["spec"]["podFailurePolicy"]["rules"]
    assert [rule["action"] for rule in rules] == ["Ignore", "FailIndex"]
    assert rules[0]["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert rules[1]["onExitCodes"]["values"] == [1, 2, 4, 5]


def test_pod_has_the_docker_executors_restrictions():
    pod = documents(TWO_ROWS)[0]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    [container] = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    writable = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert writable == {"/mnt/out", "/tmp"}  # noqa: S108 - inside the pod
    kinds = {volume["name"]: set(volume) - {"name"} for volume in pod["volumes"]}
    assert kinds == {"out": {"persistentVolumeClaim"}, "temporary": {"emptyDir"}}


def test_pod_has_the_conversions_cpu_and_memory():
    [container] = documents(TWO_ROWS)[0]["spec"]["template"]["spec"]["containers"]
    resources = container["resources"]
    assert resources["requests"] == {"cpu": "2", "memory": "8Gi"}
    assert resources["limits"]["memory"] == "8Gi"  # its memory disk counts too


def test_node_selector_matches_the_rows_gpus():
    pod = documents(TWO_ROWS)[0]["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    needed = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    found = {
        f"{major}.{minor}"
        for term in needed["nodeSelectorTerms"]
        for major in values_of(term, "nvidia.com/gpu.compute.major")
        for minor in values_of(term, "nvidia.com/gpu.compute.minor")
    }
    assert found == {"8.6", "8.9", "12.0"}


def values_of(term, key):
    [values] = [one["values"] for one in term["matchExpressions"] if one["key"] == key]
    return values


def test_without_gpus_any_node_is_allowed():
    pod = documents(manifest([job(gpus=0)]))[0]["spec"]["template"]["spec"]
    assert "affinity" not in pod
    assert "nvidia.com/gpu" not in str(pod["containers"][0]["resources"])


def test_a_job_with_other_content_has_another_name():
    assert job().name == job().name
    others = [
        {"image": IMAGE.replace("0123", "1123")},
        {"models": ("alexnet",)},
        {"gpus": 0},
        {"claim": "other"},
    ]
    names = {job().name, *(job(**change).name for change in others)}
    assert len(names) == 5
    for name in names:
        assert re.fullmatch(r"trtyard-rtx-1-7-[0-9a-f]{8}", name)


def test_manifest_uses_the_published_digest_of_this_tree(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(kubernetes, "connect", lambda: None)
    monkeypatch.setattr(kubernetes, "digest_of", lambda client, name: asked.append(name) or DIGEST)
    kubernetes.render_jobs(
        "rtx",
        models="alexnet",
        images="",
        registry="localhost:5000/team",
        claim="c",
        namespace="n",
        gpus="0",
        out="",
    )
    assert re.fullmatch(r"localhost:5000/team/rtx-1\.7:[0-9a-f]{12}", asked[0])
    assert f'image: "localhost:5000/team/rtx-1.7@{DIGEST}"' in capsys.readouterr().out


def test_the_task_writes_a_file(tasks, tmp_path):
    words = ["--target", "kubernetes", "--image", f"rtx={IMAGE}", "--out", "jobs.yml"]
    done = tasks("ci", *words, "--namespace", "models", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "jobs.yml").read_text()
    assert text.count('namespace: "models"') == 2
    assert f'image: "{IMAGE}"' in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no image given for row rtx-1.7"),
        (["--image", "rtx=registry.example.org/rtx:latest"], "an image needs a digest"),
        (["--image", f"rtx={IMAGE}0"], "an image needs a digest"),
        (["--image", f"rtx={IMAGE},rtx-1.7={IMAGE}"], "twice"),
        (["--image", f"rtx={IMAGE}", "--models", "alexnet,alexnet"], "twice"),
        (["--image", f"rtx={IMAGE}", "--models", "alexnet;reboot"], "'alexnet;reboot'"),
        (["--image", f"rtx={IMAGE}", "--claim", "a b"], "--claim"),
        (["--image", f"rtx={IMAGE}", "--gpus", "many"], "--gpus"),
        (["--image", f"rtz={IMAGE}"], "no row 'rtz'"),
        (["--trt", "rtz"], "no row 'rtz'"),
        (["--trt", "rtx,rtx-1.7"], "rtx-1.7 twice"),
    ],
)
def test_wrong_options_are_usage_errors(tasks, words, said):
    done = tasks("ci", "--target", "kubernetes", *words, env={"TRTYARD_REGISTRY": ""})
    assert done.returncode == UsageError.exit_code
    assert said in done.stderr
    assert done.stdout == ""
