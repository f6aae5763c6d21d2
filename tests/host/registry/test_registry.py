import pytest

from trtyard.core.errors import EnvironmentLacksError, IntegrityError, UsageError
from trtyard.registry.transfer import VARIABLE, NotPublishedError, Registry, explained

IMAGE = "registry.example.org/team/row:0123"


@pytest.mark.parametrize(
    "text", ["localhost", "localhost:5000/a", "registry.example.org/team/x-y", "cache:5000"]
)
def test_a_host_and_folders_name_a_registry(monkeypatch, text):
    monkeypatch.setenv(VARIABLE, "other.example.org")
    assert Registry.configured(text).image("8.6", "01") == f"{text}/8.6:01"
    monkeypatch.setenv(VARIABLE, text)
    assert Registry.configured() == Registry(prefix=text)


@pytest.mark.parametrize(
    "text", ["team", "team/x", "a.example.org/Team", "a.example.org/x:tag", "a.example.org/", "-"]
)
def test_invalid_registry_is_refused(monkeypatch, text):
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(UsageError, match=VARIABLE):
        Registry.configured()


def test_a_password_is_refused_and_not_shown(tasks):
    for words, env in (
        (["--registry", "https://me:hunter2@a.example.org"], {}),
        ([], {VARIABLE: "me:hunter2@a.example.org"}),
    ):
        done = tasks("pull", *words, "--dry-run", env=env)
        assert done.returncode == 2
        assert "docker login" in done.stderr
        assert "hunter2" not in done.stderr


def test_push_and_pull_need_a_registry(tasks):
    for task in ("push", "pull"):
        done = tasks(task, "--dry-run", env={VARIABLE: ""})
        assert done.returncode == 2
        assert f"--registry HOST/PREFIX, or set {VARIABLE}" in done.stderr


@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        (
            "failed commit: unexpected commit digest sha256:00",
            IntegrityError,
            "not match its digest",
        ),
        ("write: no space left on device", EnvironmentLacksError, "disk is full"),
        ("toomanyrequests: slow down", EnvironmentLacksError, "too many requests"),
        ("denied: requested access", EnvironmentLacksError, "refused access"),
        ("manifest unknown", NotPublishedError, "not found in the registry"),
        (
            "Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?",
            EnvironmentLacksError,
            "lost the connection to Docker",
        ),
        (
            "dial tcp: lookup x: no such host",
            EnvironmentLacksError,
            "cannot reach registry.example",
        ),
    ],
)
def test_docker_messages_become_errors(said, error, words):
    found = explained(IMAGE, said)
    assert isinstance(found, error)
    assert words in found.message
