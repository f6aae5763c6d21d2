import re

from conftest import run_task


def executed(log):
    """Return the stages whose own steps ran, out of a build's plain progress."""
    steps = {}
    for number, name in re.findall(r"^#(\d+) \[(\S+) +\d+/\d+\] (?!FROM)", log, flags=re.MULTILINE):
        steps[number] = name
    cached = set(re.findall(r"^#(\d+) CACHED$", log, flags=re.MULTILINE))
    return {name for number, name in steps.items() if number not in cached}, set(steps.values())


def test_the_log_is_read_right():
    log = "#1 [env 1/2] FROM x\n#2 [env 2/2] RUN a\n#2 CACHED\n#3 [code 1/1] COPY b\n#3 DONE 0.1s\n"
    assert executed(log) == ({"code"}, {"env", "code"})


def rebuilt(checkout):
    done = run_task("build", root=checkout)
    assert done.returncode == 0, done.stderr
    ran, all_stages = executed(done.stderr)
    assert {"env", "compiler", "built", "plugins", "code", "final"} <= all_stages
    return ran


def test_editing_the_pipeline_builds_its_layer_alone(image, checkout, built_by_test):
    file = checkout / "trtyard" / "pipeline" / "artifacts.py"
    file.write_text(file.read_text() + "\n# edited\n")
    rebuilt(checkout)  # an engine may have dropped stages of the finished image from its cache
    file.write_text(file.read_text() + "\n# edited again\n")
    assert rebuilt(checkout) <= {"code", "final"}


def test_editing_a_kernel_builds_the_plugins_alone(image, checkout, built_by_test):
    rebuilt(checkout)
    file = next((checkout / "plugins").glob("*/*.cu"))
    file.write_text(file.read_text() + "\n// edited\n")
    ran = rebuilt(checkout)
    assert "plugins" in ran
    assert ran <= {"plugins", "final"}
